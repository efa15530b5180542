_base_ = './reid_baseline.py'

model = dict(backbone=dict(type='effvit_mm.PSLT', arch='tiny', drop_path_rate=0.1))
