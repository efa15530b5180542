_base_ = [
    '../_base_/models/crossvit.py',
    '../_base_/datasets/imagenet_240.py',
    '../_base_/schedules/imagenet_adamw_crossvit_300e.py',
    '../_base_/default_runtime.py',
]
