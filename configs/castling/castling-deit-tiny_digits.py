# The threshold starts just below the even share of 65 tokens, which a fresh softmax passes, and
# rises from there: four times that share, as 0.02 is of 197 tokens, would train no branch.
_base_ = [
    '../_base_/models/deit_tiny_32.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(attention=dict(type='effvit_mm.LinearAngularAttention', threshold=0.015))
)
# The last two epochs train what inference runs: the linear part alone.
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook', final_threshold=0.2, drop_epoch=18)]
