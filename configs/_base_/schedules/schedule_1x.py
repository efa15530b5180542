# 12 epochs on 16 images a step, by PSLT's recipe for COCO; published are 36 (schedule_3x.py).
optim_wrapper = dict(
    optimizer=dict(type='AdamW', fused=True, lr=1e-4, weight_decay=1e-4),
    # Norms, class tokens and positions do not decay.
    constructor='effvit_mm.MergedOptimWrapperConstructor',
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.dist_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
            'rel_pos': dict(decay_mult=0.0),
            'relative_position_bias': dict(decay_mult=0.0),
        },
    ),
)

# 500 iterations of warm-up from a thousandth, then two steps.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=500),
    dict(type='MultiStepLR', by_epoch=True, milestones=[8, 11], gamma=0.1),
]

train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# `--auto-scale-lr` scales the rate to another number of images a step.
auto_scale_lr = dict(base_batch_size=16)
