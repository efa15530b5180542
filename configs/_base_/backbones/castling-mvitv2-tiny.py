# Castling-MViTv2-tiny: raw maps of strides 4 to 32. Without the softmax branch of training, which
# has done its work when a classifier's weights come here, and relative positions, which only it
# reads: two images of 800 x 1333 would make it matrices of 4.5 GB where the second stage begins.
backbone = dict(
    type='effvit_mm.MViTv2',
    arch='tiny',
    out_indices=(0, 1, 2, 3),
    attention=dict(type='effvit_mm.LinearAngularAttention', masked_softmax=False),
    final_norm=False,
)
