_base_ = './retinanet_pslt-tiny_fpn_1x_coco.py'

model = dict(backbone=dict(arch='base'), neck=dict(in_channels=[72, 144, 288, 576]))
