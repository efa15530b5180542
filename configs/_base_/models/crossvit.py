# CrossViT-tiny for ImageNet-1k. A variant has another arch, and the widths of its two class tokens.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='effvit_mm.CrossViT', arch='tiny', out_type='cls_token', drop_path_rate=0.1),
    head=dict(
        type='effvit_mm.TokenClsHead',
        widths=(96, 192),
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
