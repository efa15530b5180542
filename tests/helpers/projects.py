"""Configs as a project of somebody else's has them."""

DETECTOR = """
_base_ = [
    'mmdet::_base_/models/{model}.py',
    'mmdet::_base_/datasets/coco_{task}.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=(96, 96))
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(96, 96))
loader = dict(num_workers=0, persistent_workers=False)
data = dict(
    data_root='data/',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=('red', 'white', 'platelet')),
)
train_dataloader = dict(
    **loader, dataset=dict(**data, ann_file='train.json', pipeline=train_pipeline)
)
val_dataloader = dict(**loader, dataset=dict(**data, ann_file='val.json', pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
"""
RETINANET = (
    DETECTOR.format(model='retinanet_r50_fpn', task='detection')
    + """
model = dict(
    backbone=dict(
        _delete_=True,
        type='effvit_mm.PSLT',
        arch=dict(embed_dims=12, depths=(1, 1, 1, 1), num_heads=(4, 8)),
        out_indices=(0, 1, 2, 3),
        final_norm=False,
    ),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1, num_classes=3),
    test_cfg=dict(score_thr=0.0),
)
"""
)
MASK_RCNN = (
    DETECTOR.format(model='mask-rcnn_r50_fpn', task='instance')
    + """
model = dict(
    backbone=dict(
        _delete_=True,
        type='effvit_mm.VisionTransformer',
        arch=dict(embed_dims=24, depths=(1, 1, 1, 1), num_heads=3, mlp_ratio=2),
        attention=dict(type='effvit_mm.EAttention'),
        sampled_blocks=(1, 3),
    ),
    neck=dict(
        _delete_=True,
        type='effvit_mm.SimpleFeaturePyramid',
        in_channels=24,
        out_channels=32,
        num_outs=5,
    ),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=32, num_classes=3),
        mask_roi_extractor=dict(out_channels=32),
        mask_head=dict(in_channels=32, conv_out_channels=32, num_convs=1, num_classes=3),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=50, max_per_img=20), rcnn=dict(sampler=dict(num=16))),
    test_cfg=dict(
        rpn=dict(nms_pre=50, max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=5)
    ),
)
"""
)
