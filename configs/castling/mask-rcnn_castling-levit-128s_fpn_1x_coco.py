_base_ = [
    '../_base_/models/mask-rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime_det.py',
]

# LeViT's finest map has stride 8. Anchors keep their sizes, from 32 pixels on, and so do the objects
# that go to the maps of stride 8 and coarser.
model = dict(
    backbone=dict(
        _delete_=True,
        type='effvit_mm.LeViT',
        arch='128s',
        out_indices=(0, 1, 2, 3),
        attention=dict(type='effvit_mm.LinearAngularAttention'),
    ),
    neck=dict(in_channels=[64, 128, 256, 384]),
    rpn_head=dict(anchor_generator=dict(scales=[4], strides=[8, 16, 32, 64, 128])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[8, 16, 32, 64], finest_scale=112),
        mask_roi_extractor=dict(featmap_strides=[8, 16, 32, 64], finest_scale=112),
    ),
)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
