_base_ = [
    '../_base_/models/reid_castling-levit-128s.py',
    '../_base_/datasets/ward_160.py',
    '../_base_/schedules/adamw_40e_reid.py',
    '../_base_/default_runtime_reid.py',
]
