_base_ = [
    '../_base_/models/mask-rcnn_fpn_stride-8.py',
    '../_base_/backbones/castling-levit-128s.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/schedule_3x.py',
    '../_base_/default_runtime_det.py',
]

model = dict(backbone=dict(_delete_=True, **_base_.backbone))
