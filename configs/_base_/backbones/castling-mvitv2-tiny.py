# Castling-MViTv2-tiny: raw maps of strides 4 to 32. The softmax branch of training makes a matrix of
# over 1 GB at 800 x 1333: checkpointing keeps the activations of one block at a time.
backbone = dict(
    type='effvit_mm.MViTv2',
    arch='tiny',
    out_indices=(0, 1, 2, 3),
    attention=dict(type='effvit_mm.LinearAngularAttention'),
    final_norm=False,
    with_cp=True,
)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
