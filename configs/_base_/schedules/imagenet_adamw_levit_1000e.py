# LeViT's recipe for ImageNet-1k, for 2048 images a step; figures from the authors' training script.
# Its clip of 0.01 is the factor of adaptive gradient clipping, which compares the gradient of each
# unit with the unit's weights. mmengine cannot do that, and 0.01 as the norm of all gradients would
# be another thing: there is no clip here.
_base_ = './imagenet_adamw_deit_300e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4 * 2048 / 512, weight_decay=0.025))

# From 1e-6, down to 1e-5.
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-4, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, convert_to_iter_based=True
    ),
]

train_cfg = dict(max_epochs=1000)
auto_scale_lr = dict(base_batch_size=2048)

# A decay of 0.99996 a step; batch norms' statistics are averaged too. Evaluation is on the average.
custom_hooks = [
    dict(type='EMAHook', momentum=1 - 0.99996, update_buffers=True, priority='ABOVE_NORMAL')
]
