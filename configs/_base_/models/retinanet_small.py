# RetinaNet for small images on a CPU: a pyramid of 128 channels and two convolutions in each branch
# of the head. Objects are expected from 12 to 200 pixels.
_base_ = './retinanet_fpn.py'

model = dict(
    neck=dict(out_channels=128, num_outs=4),
    bbox_head=dict(
        in_channels=128,
        feat_channels=128,
        stacked_convs=2,
        anchor_generator=dict(octave_base_scale=2, strides=[8, 16, 32, 64]),
    ),
)
