# The strong baseline's 120 epochs of 16 x 4 images a step, with AdamW and a cosine in the place of
# Adam and two steps, as transformers train better; ten epochs of warm-up.
_base_ = './adamw_20e.py'

optim_wrapper = dict(optimizer=dict(lr=3.5e-4, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=7e-7, by_epoch=True, begin=10, convert_to_iter_based=True
    ),
]
train_cfg = dict(max_epochs=120, val_interval=10)

# `--auto-scale-lr` scales the rate to another number of images a step.
auto_scale_lr = dict(base_batch_size=64)
