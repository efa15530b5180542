# Mask R-CNN on a plain vision transformer of 192 channels, its pyramid as in ViTDet.
_base_ = './mask-rcnn_fpn.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='effvit_mm.SimpleFeaturePyramid',
        in_channels=192,
        out_channels=256,
        num_outs=5,
    )
)
