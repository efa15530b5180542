# The demonstration: `make demo-reid`. In 112 x 56 the map of the third stage is 7 x 4, of the last
# 4 x 2: windows are cut to them, so that nothing is padded.
_base_ = [
    '../_base_/models/reid_pslt-tiny.py',
    '../_base_/datasets/walkers.py',
    '../_base_/schedules/adamw_14e_reid.py',
    '../_base_/default_runtime_reid.py',
]

model = dict(backbone=dict(drop_path_rate=0.0, mask_padding=True))

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=(56, 112))
train_pipeline[3].update(crop_size=(112, 56))
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(56, 112))

train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=train_pipeline), sampler=dict(num_persons=8)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
