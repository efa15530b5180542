# The sample digits in random colours on textures, as the sample scenes show them: what a detector
# of the scenes (digit_scenes.py) starts from.
_base_ = './digits.py'

data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

train_pipeline = _base_.train_pipeline
train_pipeline.insert(-1, dict(type='effvit_mm.OnTexture'))
test_pipeline = _base_.test_pipeline
test_pipeline.insert(-1, dict(type='effvit_mm.OnTexture'))

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
