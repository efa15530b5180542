_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime_det.py',
]

# Maps of strides 8, 16, 32 and 64, the first out of the stem; one level is added.
model = dict(
    backbone=dict(
        _delete_=True,
        type='effvit_mm.LeViT',
        arch='128s',
        out_indices=(0, 1, 2, 3),
        attention=dict(type='effvit_mm.LinearAngularAttention'),
    ),
    neck=dict(in_channels=[64, 128, 256, 384], start_level=0),
)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
