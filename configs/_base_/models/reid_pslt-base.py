_base_ = './reid_baseline.py'

model = dict(backbone=dict(type='effvit_mm.PSLT', arch='base', drop_path_rate=0.2))
