# CrossViT's recipe for ImageNet-1k: DeiT's, but for 4096 images a step and 30 epochs of warm-up.
_base_ = './imagenet_adamw_deit_300e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4 * 4096 / 512))

# From 1e-6, down to 1e-5.
param_scheduler = [
    dict(type='LinearLR', start_factor=2.5e-4, by_epoch=True, end=30, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=30, convert_to_iter_based=True
    ),
]

auto_scale_lr = dict(base_batch_size=4096)
