_base_ = [
    '../_base_/models/reid_pslt-base.py',
    '../_base_/datasets/msmt17_v2.py',
    '../_base_/schedules/adamw_120e_reid.py',
    '../_base_/default_runtime_reid.py',
]
