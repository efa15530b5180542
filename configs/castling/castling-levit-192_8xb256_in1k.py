_base_ = './castling-levit-128s_8xb256_in1k.py'

model = dict(backbone=dict(arch='192'), head=dict(in_channels=384))
