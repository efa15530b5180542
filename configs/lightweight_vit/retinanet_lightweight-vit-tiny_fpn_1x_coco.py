_base_ = [
    '../_base_/models/retinanet_simple-pyramid.py',
    '../_base_/backbones/lightweight-vit-tiny.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime_det.py',
]

model = dict(backbone=dict(_delete_=True, **_base_.backbone))
