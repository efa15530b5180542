# E-attention: from the second block on, at most 16 of the 49 patch tokens go on.
_base_ = [
    '../_base_/models/deit_tiny_28.py',
    '../_base_/datasets/fashion_mnist_28.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        attention=dict(type='effvit_mm.EAttention', num_samples=16), sampled_blocks=(1, 2, 3)
    )
)
train_cfg = dict(max_epochs=5)
