_base_ = [
    '../_base_/models/reid_pslt-tiny.py',
    '../_base_/datasets/ward_224.py',
    '../_base_/schedules/adamw_60e_reid.py',
    '../_base_/default_runtime_reid.py',
]

# No padded windows: maps are 14 x 7 and 7 x 4.
model = dict(backbone=dict(mask_padding=True))
