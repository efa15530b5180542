# Mask R-CNN on the two maps of CrossViT-9.
_base_ = './mask-rcnn_fpn.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='effvit_mm.CrossViTPyramid',
        in_channels=[128, 256],
        out_channels=256,
        num_outs=5,
    )
)
