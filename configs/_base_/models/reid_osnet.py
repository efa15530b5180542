# torchreid's OSNet for comparison: its 512 features are the pooled vector, the rest is the same as
# everywhere. pretrained=True loads torchreid's ImageNet weights, which are downloaded.
_base_ = './reid_baseline.py'

model = dict(
    backbone=dict(type='effvit_mm.TorchreidBackbone', name='osnet_x1_0'),
    pooling=dict(type='effvit_mm.TokenPooling'),
)
