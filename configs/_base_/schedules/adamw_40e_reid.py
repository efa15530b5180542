# For small sets, from scratch: 40 epochs of 8 x 4 images a step, five of warm-up, one cosine.
_base_ = './adamw_120e_reid.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=5)
param_scheduler[1].update(eta_min=1e-6, begin=5)
train_cfg = dict(max_epochs=40)
auto_scale_lr = dict(base_batch_size=32)
