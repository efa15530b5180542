# For small sets, from scratch: 40 epochs of 8 x 4 images a step, five of warm-up, one cosine.
_base_ = './adamw_20e.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5, convert_to_iter_based=True
    ),
]
train_cfg = dict(max_epochs=40, val_interval=10)
auto_scale_lr = dict(base_batch_size=32)
