# The class tokens of both branches, joined: 96 + 192.
_base_ = './reid_baseline.py'

model = dict(
    backbone=dict(type='effvit_mm.CrossViT', arch='tiny', out_type='cls_token', drop_path_rate=0.1),
    pooling=dict(type='effvit_mm.TokenPooling'),
)
