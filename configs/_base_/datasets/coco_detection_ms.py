# COCO 2017 at several scales: short sides of 640 to 800 pixels, drawn anew for each image.
_base_ = './coco_detection.py'

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(type='RandomResize', scale=[(1333, 640), (1333, 800)], keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
