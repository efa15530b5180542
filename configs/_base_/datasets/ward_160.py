# WARD in 160 x 80, about as wide as its images are; 8 persons with 4 images a step.
_base_ = './ward.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=(80, 160))
train_pipeline[3].update(crop_size=(160, 80), padding=6)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(80, 160))

train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=train_pipeline), sampler=dict(num_persons=8)
)
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
