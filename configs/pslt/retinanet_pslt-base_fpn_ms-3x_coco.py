# The paper's recipe: 36 epochs, short sides of 640 to 800 pixels.
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/backbones/pslt-base.py',
    '../_base_/datasets/coco_detection_ms.py',
    '../_base_/schedules/schedule_3x.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(_delete_=True, **_base_.backbone), neck=dict(in_channels=[72, 144, 288, 576])
)

# Batch norms see the images of all processes, as published. Left out on CPUs.
sync_bn = 'torch'
