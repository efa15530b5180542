# WARD in 160 x 80, about as wide as its images are; 8 persons with 4 images a step.
_base_ = './ward.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=(80, 160))
train_pipeline[3].update(crop_size=(160, 80), padding=6)
train_pipeline[4].update(erase_prob=0.2)  # from scratch and in few steps, more is too much
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(80, 160))

train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=train_pipeline), sampler=dict(num_persons=8)
)
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
