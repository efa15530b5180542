# E-attention: from the second block on, at most 24 of the 64 patch tokens go on.
_base_ = [
    '../_base_/models/deit_tiny_32.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        attention=dict(type='effvit_mm.EAttention', num_samples=24), sampled_blocks=(1, 2, 3)
    )
)
