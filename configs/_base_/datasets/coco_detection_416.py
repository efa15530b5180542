# COCO 2017 for mobile detectors, at 416 pixels.
_base_ = './coco_detection_320.py'

image_size = (416, 416)
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=image_size)
train_pipeline[3].update(crop_size=image_size)
train_pipeline[6].update(size=image_size)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=image_size)
test_pipeline[2].update(size=image_size)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
