# WARD in 224 x 112, which all networks of the comparison divide well, 8 persons with 4 images a step.
_base_ = './ward.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=(112, 224))
train_pipeline[3].update(crop_size=(224, 112))
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(112, 224))

train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=train_pipeline), sampler=dict(num_persons=8)
)
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
