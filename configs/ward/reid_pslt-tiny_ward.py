_base_ = [
    '../_base_/models/reid_pslt-tiny.py',
    '../_base_/datasets/ward_160.py',
    '../_base_/schedules/adamw_40e_reid.py',
    '../_base_/default_runtime_reid.py',
]

# Maps are 10 x 5 and 5 x 3: windows are cut to them where they are narrower.
model = dict(backbone=dict(drop_path_rate=0.0, mask_padding=True))
