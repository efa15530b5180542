_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime_det.py',
]

# Windows of 14 tokens, as in ViTDet: at 800 x 1333 the small branch has 8,520 tokens.
model = dict(
    backbone=dict(
        _delete_=True,
        type='effvit_mm.CrossViT',
        arch='9',
        mode='dense',
        out_indices=(0, 1),
        window_size=14,
    ),
    neck=dict(
        _delete_=True,
        type='effvit_mm.CrossViTPyramid',
        in_channels=[128, 256],
        out_channels=256,
        start_level=1,
        num_outs=5,
        add_extra_convs=True,
    ),
)
