# Castling-DeiT-tiny: one map of stride 16. Windows of 14 tokens, as in ViTDet, in all but the last
# block of each stage: 196 tokens, as many as the attention was trained with at 224 pixels, and no
# large matrix in its softmax branch.
backbone = dict(
    type='effvit_mm.VisionTransformer',
    arch='tiny',
    attention=dict(type='effvit_mm.LinearAngularAttention'),
    window_size=14,
)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
