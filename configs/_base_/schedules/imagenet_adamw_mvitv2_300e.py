# MViTv2's recipe for ImageNet-1k, for 2048 images a step; figures from the authors' configs: 2.5e-4
# for each machine of 256 images, multiplied by the number of machines, as are both ends of the
# schedule. (mmpretrain's MViTv2 configs take 2.5e-4 for 2048 images.) There is no average of the
# weights. The authors decay the relative positions; timm and mmpretrain do not, nor is it done here.
_base_ = './imagenet_adamw_deit_300e.py'

optim_wrapper = dict(
    optimizer=dict(lr=2.5e-4 * 2048 / 256, weight_decay=0.05), clip_grad=dict(max_norm=1.0)
)

# From 8e-8 over 70 epochs, then a cosine down to 8e-6.
param_scheduler = [
    dict(type='LinearLR', start_factor=4e-5, by_epoch=True, end=70, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=8e-6, by_epoch=True, begin=70, convert_to_iter_based=True
    ),
]

auto_scale_lr = dict(base_batch_size=2048)
