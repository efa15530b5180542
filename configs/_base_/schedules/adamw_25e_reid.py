# A short training from scratch of 8 x 4 images a step, for the sample set.
_base_ = './adamw_20e.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=2, convert_to_iter_based=True
    ),
]
train_cfg = dict(max_epochs=25, val_interval=5)
auto_scale_lr = dict(base_batch_size=32)
