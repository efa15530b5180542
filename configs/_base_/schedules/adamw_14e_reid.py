# A short training from scratch for the sample set: 14 epochs, one of warm-up.
_base_ = './adamw_40e_reid.py'

param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=1)
param_scheduler[1].update(begin=1)
train_cfg = dict(max_epochs=14, val_interval=3)
