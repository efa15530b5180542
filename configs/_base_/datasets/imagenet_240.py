# ImageNet-1k at 240 pixels, CrossViT's. The ratio of crop to image is that of 224 to 256.
_base_ = './imagenet_224.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=240)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=274)
test_pipeline[2].update(crop_size=240)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
