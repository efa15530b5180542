# By MViTv2's recipe: RandAugment of six steps an image, no repeated augmentation.
_base_ = [
    '../_base_/models/mvitv2.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_mvitv2_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(attention=dict(type='effvit_mm.LinearAngularAttention')))
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]

train_pipeline = _base_.train_pipeline
train_pipeline[3].update(num_policies=6)
train_dataloader = dict(
    dataset=dict(pipeline=train_pipeline),
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
)
