# The digits at 64 pixels, for networks that divide the resolution by 64.
_base_ = './digits.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=64)
train_pipeline[-2].update(crop_size=64, padding=6)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=64)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
