model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='effvit_mm.LeViT',
        arch='128s',
        attention=dict(type='effvit_mm.LinearAngularAttention'),
    ),
    head=dict(type='effvit_mm.LeViTClsHead', in_channels=384, num_classes=1000),
)
