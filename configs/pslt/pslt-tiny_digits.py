# The demonstration: a few minutes on two CPU cores.
_base_ = [
    '../_base_/models/pslt_tiny.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(drop_path_rate=0.05), head=dict(num_classes=10))
