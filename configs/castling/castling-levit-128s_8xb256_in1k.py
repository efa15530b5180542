# By LeViT's recipe, distillation included. The position bias enters the masked softmax alone.
_base_ = [
    '../_base_/models/levit.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_levit_1000e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(attention=dict(type='effvit_mm.LinearAngularAttention')))
# A list replaces the schedule's: its average of the weights stands here too.
custom_hooks = [*_base_.custom_hooks, dict(type='effvit_mm.MaskedSoftmaxHook')]

train_dataloader = dict(batch_size=256)
