# From scratch. The threshold starts at the even share of 50 tokens, where a fresh softmax keeps half
# of its entries; four times that, as 0.02 is of 197 tokens, would keep none and train no branch.
_base_ = [
    '../_base_/models/deit_tiny_28.py',
    '../_base_/datasets/fashion_mnist_28.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(attention=dict(type='effvit_mm.LinearAngularAttention', threshold=0.02)))
train_cfg = dict(max_epochs=5)
# The last epoch trains what inference runs: the linear part alone.
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook', final_threshold=0.2, drop_epoch=4)]
