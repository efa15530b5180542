_base_ = [
    '../_base_/models/reid_crossvit-tiny.py',
    '../_base_/datasets/ward_160.py',
    '../_base_/schedules/adamw_40e_reid.py',
    '../_base_/default_runtime_reid.py',
]

model = dict(backbone=dict(drop_path_rate=0.0))
