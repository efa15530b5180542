# DeiT's recipe for ImageNet-1k, for 1024 images a step; figures from the authors' training script.
# The script keeps an average of the weights too, but evaluates and publishes the weights themselves:
# none here. There is no gradient clip.
optim_wrapper = dict(
    optimizer=dict(
        type='AdamW',
        fused=True,
        lr=5e-4 * 1024 / 512,
        weight_decay=0.05,
        eps=1e-8,
        betas=(0.9, 0.999),
    ),
    # No decay of norms, biases, class tokens and positions, as in timm.
    constructor='effvit_mm.MergedOptimWrapperConstructor',
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.dist_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
            'rel_pos': dict(decay_mult=0.0),
            'relative_position_bias': dict(decay_mult=0.0),
        },
    ),
)

# From 1e-6 over 5 epochs, then a cosine down to 1e-5; set anew at each step.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, convert_to_iter_based=True
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# `--auto-scale-lr` scales the rate to another number of images a step.
auto_scale_lr = dict(base_batch_size=1024)
