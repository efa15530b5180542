_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime_det.py',
]

# Windows of 14 tokens, as in ViTDet, in all but the last block of each stage: 196 tokens, as many as
# the attention was trained with at 224 pixels, and no large matrix in its softmax branch.
model = dict(
    backbone=dict(
        _delete_=True,
        type='effvit_mm.VisionTransformer',
        arch='tiny',
        attention=dict(type='effvit_mm.LinearAngularAttention'),
        window_size=14,
    ),
    neck=dict(
        _delete_=True,
        type='effvit_mm.SimpleFeaturePyramid',
        in_channels=192,
        out_channels=256,
        scales=(2, 1, 0.5),
        num_outs=5,
        add_extra_convs=True,
    ),
)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
