# Fine-tuning at a higher resolution on ImageNet-1k, for 512 images a step. The 30 epochs are what
# CrossViT's paper says; the rest is DeiT's for the same purpose: a rate of 5e-6 x batch / 512 that
# does not fall behind 5 epochs of warm-up, and next to no weight decay.
_base_ = './imagenet_adamw_deit_300e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-6 * 512 / 512, weight_decay=1e-8))

# From 1e-6.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.2, by_epoch=True, end=5, convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=512)
