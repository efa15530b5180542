# The threshold starts at the even share of 32 tokens.
_base_ = [
    '../_base_/models/reid_castling-levit-128s.py',
    '../_base_/datasets/walkers.py',
    '../_base_/schedules/adamw_14e_reid.py',
    '../_base_/default_runtime_reid.py',
]

model = dict(backbone=dict(attention=dict(threshold=0.03)))

train_dataloader = dict(batch_size=32, sampler=dict(num_persons=8))
