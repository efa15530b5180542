# The yardstick: mmdet's ResNet-18, from scratch as well, all of it trained.
_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
    bbox_head=dict(num_classes=3),
)
