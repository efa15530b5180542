# Small detectors from scratch on small sets: AdamW, one epoch of warm-up and one cosine.
_base_ = './adamw_20e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=10.0))
train_cfg = dict(max_epochs=18, val_interval=3)
