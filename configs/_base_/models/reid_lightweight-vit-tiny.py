# E-attention; the feature is the class token, which chooses the tokens that stay.
_base_ = './reid_baseline.py'

model = dict(
    backbone=dict(
        type='effvit_mm.VisionTransformer',
        arch='tiny',
        out_type='cls_token',
        attention=dict(type='effvit_mm.EAttention'),
        sampled_blocks=tuple(range(3, 12)),
        drop_path_rate=0.1,
    ),
    pooling=dict(type='effvit_mm.TokenPooling'),
)
