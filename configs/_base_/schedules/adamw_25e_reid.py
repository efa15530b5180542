# A short training from scratch for the sample set: 25 epochs, two of warm-up.
_base_ = './adamw_40e_reid.py'

param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=2)
param_scheduler[1].update(begin=2)
train_cfg = dict(max_epochs=25, val_interval=5)
