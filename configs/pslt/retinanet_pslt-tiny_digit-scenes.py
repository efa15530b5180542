_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/schedules/adamw_24e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(bbox_head=dict(num_classes=10))
