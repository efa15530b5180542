# LeViT's first map, out of its stem, has stride 8.
_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/backbones/castling-levit-128s.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(_delete_=True, **_base_.backbone),
    neck=dict(in_channels=[64, 128, 256, 384], start_level=0),
    bbox_head=dict(num_classes=3),
)
# The last epochs train what inference runs: the linear part alone.
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook', drop_epoch=16)]
