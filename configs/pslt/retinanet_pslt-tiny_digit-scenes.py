# The demonstration of detection: `make demo-det`. Its backbone starts from
# pslt-tiny_textured-digits.py, whose checkpoint the Makefile names.
_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/schedules/adamw_9e_det.py',
    '../_base_/default_runtime_det.py',
]

# For a short training: norms behind the layers of pyramid and head, no stochastic depth.
model = dict(
    backbone=dict(drop_path_rate=0.0),
    neck=dict(norm_cfg=dict(type='GN', num_groups=32)),
    bbox_head=dict(num_classes=10, norm_cfg=dict(type='GN', num_groups=32)),
)
