_base_ = [
    '../_base_/models/reid_castling-levit-128s.py',
    '../_base_/datasets/reid_folder.py',
    '../_base_/schedules/adamw_120e_reid.py',
    '../_base_/default_runtime_reid.py',
]
