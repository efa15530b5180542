_base_ = [
    '../_base_/models/reid_crossvit-tiny.py',
    '../_base_/datasets/cuhk03.py',
    '../_base_/schedules/adamw_120e_reid.py',
    '../_base_/default_runtime_reid.py',
]
