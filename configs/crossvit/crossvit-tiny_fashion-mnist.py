_base_ = [
    '../_base_/models/crossvit_tiny_28.py',
    '../_base_/datasets/fashion_mnist_28.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

train_cfg = dict(max_epochs=5)
