_base_ = [
    '../_base_/models/reid_pslt-tiny.py',
    '../_base_/datasets/market1501.py',
    '../_base_/schedules/adamw_120e_reid.py',
    '../_base_/default_runtime_reid.py',
]
