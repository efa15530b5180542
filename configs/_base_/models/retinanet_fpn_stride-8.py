# RetinaNet on LeViT-128S, whose finest map has stride 8: all four maps go in, one level is added.
_base_ = './retinanet_fpn.py'

model = dict(neck=dict(in_channels=[64, 128, 256, 384], start_level=0))
