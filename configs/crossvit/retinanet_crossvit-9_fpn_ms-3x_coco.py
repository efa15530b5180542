_base_ = [
    '../_base_/models/retinanet_crossvit-pyramid.py',
    '../_base_/backbones/crossvit-9.py',
    '../_base_/datasets/coco_detection_ms.py',
    '../_base_/schedules/schedule_3x.py',
    '../_base_/default_runtime_det.py',
]

model = dict(backbone=dict(_delete_=True, **_base_.backbone))
