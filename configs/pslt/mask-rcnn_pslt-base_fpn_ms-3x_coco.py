# The paper's recipe: 36 epochs, short sides of 640 to 800 pixels.
_base_ = [
    '../_base_/models/mask-rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_3x.py',
    '../_base_/default_runtime_det.py',
]

model = dict(backbone=dict(arch='base'), neck=dict(in_channels=[72, 144, 288, 576]))

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(type='RandomResize', scale=[(1333, 640), (1333, 800)], keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# Batch norms see the images of all processes, as published. Not on CPUs: --cfg-options sync_bn=None.
sync_bn = 'torch'
# The paper's rate for Mask R-CNN.
optim_wrapper = dict(optimizer=dict(lr=6e-5))
