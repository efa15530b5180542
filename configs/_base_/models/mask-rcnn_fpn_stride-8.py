# Mask R-CNN on LeViT-128S, whose finest map has stride 8. Anchors keep their sizes, from 32 pixels
# on, and so do the objects that go to the maps of stride 8 and coarser.
_base_ = './mask-rcnn_fpn.py'

model = dict(
    neck=dict(in_channels=[64, 128, 256, 384]),
    rpn_head=dict(anchor_generator=dict(scales=[4], strides=[8, 16, 32, 64, 128])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[8, 16, 32, 64], finest_scale=112),
        mask_roi_extractor=dict(featmap_strides=[8, 16, 32, 64], finest_scale=112),
    ),
)
