_base_ = './castling-mvitv2-tiny_16xb128_in1k.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.3))
