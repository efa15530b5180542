# Mobile detectors: 300 epochs of AdamW on 64 images a step, a quarter of RTMDet's rate for 256. The
# rate stays for half of the epochs, then falls by a cosine to a twentieth.
optim_wrapper = dict(
    optimizer=dict(type='AdamW', fused=True, lr=1e-3, weight_decay=0.05),
    constructor='effvit_mm.MergedOptimWrapperConstructor',
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'relative_position_bias': dict(decay_mult=0.0)},
    ),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min=5e-5,
        by_epoch=True,
        begin=150,
        end=300,
        T_max=150,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=10)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=64)
