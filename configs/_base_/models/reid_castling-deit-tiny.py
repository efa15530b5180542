# The feature is the class token. The masked softmax trains beside the linear attention throughout;
# evaluation runs without it, as everywhere.
_base_ = './reid_baseline.py'

model = dict(
    backbone=dict(
        type='effvit_mm.VisionTransformer',
        arch='tiny',
        out_type='cls_token',
        attention=dict(type='effvit_mm.LinearAngularAttention'),
        drop_path_rate=0.1,
    ),
    pooling=dict(type='effvit_mm.TokenPooling'),
)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
