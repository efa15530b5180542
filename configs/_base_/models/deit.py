# DeiT-tiny for ImageNet-1k. A variant has another arch, and its width in the head.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='effvit_mm.VisionTransformer', arch='tiny', out_type='cls_token', drop_path_rate=0.1
    ),
    head=dict(
        type='effvit_mm.LinearClsHead',
        in_channels=192,
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
