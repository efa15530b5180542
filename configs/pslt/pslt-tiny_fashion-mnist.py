_base_ = [
    '../_base_/models/pslt_tiny.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

# Maps are smaller than a window here: without their padding the network is three times faster.
model = dict(backbone=dict(drop_path_rate=0.0, mask_padding=True), head=dict(num_classes=10))

optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
train_cfg = dict(max_epochs=8)
