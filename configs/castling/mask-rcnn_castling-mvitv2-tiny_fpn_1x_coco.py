_base_ = [
    '../_base_/models/mask-rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime_det.py',
]

# The softmax branch of training makes a matrix of over 1 GB at 800 x 1333: checkpointing keeps the
# activations of one block at a time.
model = dict(
    backbone=dict(
        _delete_=True,
        type='effvit_mm.MViTv2',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        attention=dict(type='effvit_mm.LinearAngularAttention'),
        final_norm=False,
        with_cp=True,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
