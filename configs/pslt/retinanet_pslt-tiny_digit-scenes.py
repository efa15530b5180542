# The demonstration of detection: `make demo-det`. Its backbone starts from
# pslt-tiny_textured-digits.py, whose checkpoint the Makefile names.
_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/schedules/adamw_8e_det.py',
    '../_base_/default_runtime_det.py',
]

# For a short training: norms behind the layers of pyramid and head, no stochastic depth. Digits are
# half as high again as wide, and a quarter of them so small that no anchor on a grid of eight pixels
# overlaps them by half: the pyramid starts at stride 4, with half the channels.
norm_cfg = dict(type='GN', num_groups=16)
model = dict(
    backbone=dict(drop_path_rate=0.0),
    neck=dict(start_level=0, out_channels=64, add_extra_convs=False, norm_cfg=norm_cfg),
    bbox_head=dict(
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(ratios=[1.5], strides=[4, 8, 16, 32]),
        norm_cfg=norm_cfg,
    ),
)
