# 540 tokens in the small branch: no windows are needed.
_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/backbones/crossvit-9.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(_delete_=True, **{**_base_.backbone, 'window_size': None, 'drop_path_rate': 0.0}),
    neck=dict(
        _delete_=True,
        type='effvit_mm.CrossViTPyramid',
        in_channels=[128, 256],
        out_channels=128,
        start_level=1,
        num_outs=4,
        add_extra_convs=True,
    ),
    bbox_head=dict(num_classes=3),
)
