# MViTv2-tiny for ImageNet-1k. A variant has another arch; the head is the same in all.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='effvit_mm.MViTv2', arch='tiny', drop_path_rate=0.1),
    head=dict(
        type='effvit_mm.LinearClsHead',
        in_channels=768,
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
