# The lightweight ViT-tiny: one map of stride 16. E-attention is linear in the tokens and needs no
# windows. Cells of dropped tokens keep their last feature.
backbone = dict(
    type='effvit_mm.VisionTransformer',
    arch='tiny',
    attention=dict(type='effvit_mm.EAttention'),
    sampled_blocks=tuple(range(3, 12)),
)
