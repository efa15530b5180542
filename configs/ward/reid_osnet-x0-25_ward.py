_base_ = [
    '../_base_/models/reid_osnet.py',
    '../_base_/datasets/ward_160.py',
    '../_base_/schedules/adamw_40e_reid.py',
    '../_base_/default_runtime_reid.py',
]

model = dict(backbone=dict(name='osnet_x0_25'))
