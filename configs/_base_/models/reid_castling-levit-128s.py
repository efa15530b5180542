# The masked softmax trains beside the linear attention throughout; evaluation runs without it.
_base_ = './reid_baseline.py'

model = dict(
    backbone=dict(
        type='effvit_mm.LeViT',
        arch='128s',
        attention=dict(type='effvit_mm.LinearAngularAttention'),
    ),
)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
