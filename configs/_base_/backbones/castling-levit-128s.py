# Castling-LeViT-128S: maps of strides 8, 16, 32 and 64, the first out of the stem.
backbone = dict(
    type='effvit_mm.LeViT',
    arch='128s',
    out_indices=(0, 1, 2, 3),
    attention=dict(type='effvit_mm.LinearAngularAttention'),
)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
