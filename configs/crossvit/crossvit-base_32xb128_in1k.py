_base_ = './crossvit-tiny_32xb128_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(widths=(384, 768)))
