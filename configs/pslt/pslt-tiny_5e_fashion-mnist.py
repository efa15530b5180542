# PSLT's row in the comparison of the four families: five epochs at 32 pixels.
_base_ = [
    '../_base_/models/pslt_tiny.py',
    '../_base_/datasets/fashion_mnist_32.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(drop_path_rate=0.0, mask_padding=True), head=dict(num_classes=10))
train_cfg = dict(max_epochs=5)
