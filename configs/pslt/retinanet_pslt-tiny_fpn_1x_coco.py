_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/backbones/pslt-tiny.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime_det.py',
]

model = dict(backbone=dict(_delete_=True, **_base_.backbone))

# Batch norms see the images of all processes, as published. Left out on CPUs.
sync_bn = 'torch'
