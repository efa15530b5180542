# What the masked branch and the convolution are worth: neither is here.
_base_ = [
    '../_base_/models/deit_tiny_28.py',
    '../_base_/datasets/fashion_mnist_28.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        attention=dict(
            type='effvit_mm.LinearAngularAttention', masked_softmax=False, convolution='none'
        )
    )
)
train_cfg = dict(max_epochs=5)
