# 32 tokens and the class token; the threshold starts at their even share.
_base_ = [
    '../_base_/models/reid_castling-deit-tiny.py',
    '../_base_/datasets/walkers.py',
    '../_base_/schedules/adamw_14e_reid.py',
    '../_base_/default_runtime_reid.py',
]

model = dict(backbone=dict(attention=dict(threshold=0.03), drop_path_rate=0.0))

train_dataloader = dict(batch_size=32, sampler=dict(num_persons=8))
