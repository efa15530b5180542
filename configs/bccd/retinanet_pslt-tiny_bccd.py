_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/backbones/pslt-tiny.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(_delete_=True, **_base_.backbone, drop_path_rate=0.0),
    bbox_head=dict(num_classes=3),
)
