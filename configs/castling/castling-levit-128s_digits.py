_base_ = [
    '../_base_/models/castling_levit_128s.py',
    '../_base_/datasets/digits_64.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=10))
# The last two epochs train what inference runs: the linear part alone.
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook', drop_epoch=18)]
