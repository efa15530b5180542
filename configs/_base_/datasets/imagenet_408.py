# ImageNet-1k at 408 pixels, for CrossViT's fine-tuning. Evaluation cuts off nothing of the short
# side: timm has this for the published weights.
_base_ = './imagenet_224.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=408)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=408)
test_pipeline[2].update(crop_size=408)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
