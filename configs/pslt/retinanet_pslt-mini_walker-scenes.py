# Part of `make demo-search`: where people are. The backbone may start from that of
# reid_pslt-mini_walker-scenes.py, as in the Makefile.
_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/backbones/pslt-mini.py',
    '../_base_/datasets/walker_scenes.py',
    '../_base_/schedules/adamw_8e_det.py',
    '../_base_/default_runtime_det.py',
]

# People are two and a half times as high as wide, and from 50 to 130 pixels high.
norm_cfg = dict(type='GN', num_groups=16)
model = dict(
    backbone=dict(_delete_=True, **_base_.backbone, out_indices=(1, 2, 3), final_norm=False),
    neck=dict(
        in_channels=[48, 96, 192],
        start_level=0,
        out_channels=64,
        num_outs=3,
        add_extra_convs=False,
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        num_classes=1,
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(octave_base_scale=3, ratios=[2.7], strides=[8, 16, 32]),
        norm_cfg=norm_cfg,
        reg_decoded_bbox=True,
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=2.0),
    ),
)

train_cfg = dict(max_epochs=6, val_interval=6)
