# The classifier that the detectors of digit scenes start from.
_base_ = [
    '../_base_/models/pslt_tiny.py',
    '../_base_/datasets/digits_on_textures.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(drop_path_rate=0.0, mask_padding=True), head=dict(num_classes=10))
train_cfg = dict(max_epochs=12)
