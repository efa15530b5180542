_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/backbones/lightweight-vit-tiny.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(_delete_=True, **_base_.backbone, drop_path_rate=0.0),
    neck=dict(
        _delete_=True,
        type='effvit_mm.SimpleFeaturePyramid',
        in_channels=192,
        out_channels=128,
        scales=(2, 1, 0.5),
        num_outs=4,
        add_extra_convs=True,
    ),
    bbox_head=dict(num_classes=3),
)
