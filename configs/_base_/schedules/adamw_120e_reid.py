# The strong baseline's 120 epochs of 16 x 4 images a step, with AdamW and a cosine in the place of
# Adam and two steps, as transformers train better; ten epochs of warm-up.
_base_ = './adamw_20e.py'

optim_wrapper = dict(optimizer=dict(lr=3.5e-4))
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=10)
param_scheduler[1].update(eta_min=7e-7, begin=10)
train_cfg = dict(max_epochs=120, val_interval=10)

# `--auto-scale-lr` scales the rate to another number of images a step.
auto_scale_lr = dict(base_batch_size=64)
