_base_ = [
    '../_base_/models/crossvit_tiny_32.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]
