_base_ = [
    '../_base_/models/reid_crossvit-tiny.py',
    '../_base_/datasets/walkers.py',
    '../_base_/schedules/adamw_14e_reid.py',
    '../_base_/default_runtime_reid.py',
]

model = dict(backbone=dict(drop_path_rate=0.0))

train_dataloader = dict(batch_size=32, sampler=dict(num_persons=8))
