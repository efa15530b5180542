# CrossViT-9: the maps of its two branches, strides 11.2 and 16. Windows of 14 tokens, as in ViTDet:
# at 800 x 1333 the small branch has 8,520 tokens.
backbone = dict(
    type='effvit_mm.CrossViT', arch='9', mode='dense', out_indices=(0, 1), window_size=14
)
