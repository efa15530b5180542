# RetinaNet on a plain vision transformer of 192 channels, its pyramid as in ViTDet.
_base_ = './retinanet_fpn.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='effvit_mm.SimpleFeaturePyramid',
        in_channels=192,
        out_channels=256,
        scales=(2, 1, 0.5),
        num_outs=5,
        add_extra_convs=True,
    )
)
