# PSLT cut for the demonstrations on a CPU: half of tiny's width and depth.
backbone = dict(
    type='effvit_mm.PSLT',
    arch=dict(embed_dims=12, depths=(2, 2, 4, 2), num_heads=(4, 8)),
    drop_path_rate=0.0,
)
