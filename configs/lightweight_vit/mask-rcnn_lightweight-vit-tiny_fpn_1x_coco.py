_base_ = [
    '../_base_/models/mask-rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime_det.py',
]

# E-attention is linear in the tokens and needs no windows. Cells of dropped tokens keep their last
# feature.
model = dict(
    backbone=dict(
        _delete_=True,
        type='effvit_mm.VisionTransformer',
        arch='tiny',
        attention=dict(type='effvit_mm.EAttention'),
        sampled_blocks=tuple(range(3, 12)),
    ),
    neck=dict(
        _delete_=True,
        type='effvit_mm.SimpleFeaturePyramid',
        in_channels=192,
        out_channels=256,
        num_outs=5,
    ),
)
