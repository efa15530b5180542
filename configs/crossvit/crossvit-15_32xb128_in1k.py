_base_ = './crossvit-tiny_32xb128_in1k.py'

model = dict(backbone=dict(arch='15'), head=dict(widths=(192, 384)))
