# As retinanet_pslt-tiny_digit-scenes.py, with masks.
_base_ = [
    '../_base_/models/mask-rcnn_small.py',
    '../_base_/datasets/digit_scenes_masks.py',
    '../_base_/schedules/adamw_8e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(drop_path_rate=0.0),
    neck=dict(norm_cfg=dict(type='GN', num_groups=32)),
    roi_head=dict(
        bbox_head=dict(num_classes=10),
        mask_head=dict(num_classes=10, norm_cfg=dict(type='BN')),
    ),
)

# Its steps take twice as long.
train_cfg = dict(max_epochs=6)
