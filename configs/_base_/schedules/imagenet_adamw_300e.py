# PSLT's recipe for ImageNet-1k, for 8 x 128 = 1024 images a step.
optim_wrapper = dict(
    optimizer=dict(
        type='AdamW',
        fused=True,
        lr=5e-4 * 1024 / 512,
        weight_decay=0.025,
        eps=1e-8,
        betas=(0.9, 0.999),
    ),
    # No decay of 1-D parameters (norms and biases): timm's default, with which the authors
    # trained. That the bias table, which is 2-D, has none either is Swin's habit.
    constructor='effvit_mm.MergedOptimWrapperConstructor',
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)},
    ),
)

# From 1e-6 over 5 epochs, then a cosine down to 1e-6; set anew at each step.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5, convert_to_iter_based=True
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# `--auto-scale-lr` scales the rate to another number of images a step.
auto_scale_lr = dict(base_batch_size=1024)

# A decay of 0.99996 a step; batch norms' statistics are averaged too. Evaluation is on the average.
custom_hooks = [
    dict(type='EMAHook', momentum=1 - 0.99996, update_buffers=True, priority='ABOVE_NORMAL')
]
