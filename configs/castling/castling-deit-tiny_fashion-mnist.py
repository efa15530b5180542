# From scratch. Of 50 tokens, 0.08 is four times the even share, as 0.02 is of 197.
_base_ = [
    '../_base_/models/deit_tiny_28.py',
    '../_base_/datasets/fashion_mnist_28.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(attention=dict(type='effvit_mm.LinearAngularAttention', threshold=0.08))
)
train_cfg = dict(max_epochs=5)
# The last epoch trains what inference runs: the linear part alone.
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook', final_threshold=0.5, drop_epoch=4)]
