# 36 epochs, PSLT's published schedule for COCO.
_base_ = './schedule_1x.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=500),
    dict(type='MultiStepLR', by_epoch=True, milestones=[24, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=36)
