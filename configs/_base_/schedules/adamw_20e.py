# Short trainings from scratch: warm-up and one cosine, set anew at each step.
# The cosine ends with the last epoch, also where `train_cfg.max_epochs` is changed.
optim_wrapper = dict(
    optimizer=dict(type='AdamW', fused=True, lr=2e-3, weight_decay=0.05),
    constructor='effvit_mm.MergedOptimWrapperConstructor',
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            'relative_position_bias': dict(decay_mult=0.0),
            'rel_pos': dict(decay_mult=0.0),
            '.cls_token': dict(decay_mult=0.0),
            '.dist_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=1, convert_to_iter_based=True
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1)
val_cfg = dict()
test_cfg = dict()
