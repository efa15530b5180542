# PSLT-base as a classifier. The head is initialised as the authors' is.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='effvit_mm.PSLT', arch='base', drop_path_rate=0.2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=576,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
