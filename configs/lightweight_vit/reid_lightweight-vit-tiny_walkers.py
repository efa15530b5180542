# Of 32 tokens at most 24 go on, from the fourth block.
_base_ = [
    '../_base_/models/reid_lightweight-vit-tiny.py',
    '../_base_/datasets/walkers.py',
    '../_base_/schedules/adamw_14e_reid.py',
    '../_base_/default_runtime_reid.py',
]

model = dict(backbone=dict(attention=dict(num_samples=24), drop_path_rate=0.0))

train_dataloader = dict(batch_size=32, sampler=dict(num_persons=8))
