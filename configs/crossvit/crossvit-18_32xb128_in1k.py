_base_ = './crossvit-tiny_32xb128_in1k.py'

model = dict(backbone=dict(arch='18'), head=dict(widths=(224, 448)))
