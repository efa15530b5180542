# Part of `make demo-search`: who it is. In 112 x 56, as reid_pslt-tiny_walkers.py.
_base_ = [
    '../_base_/models/reid_baseline.py',
    '../_base_/backbones/pslt-mini.py',
    '../_base_/datasets/walker_scenes_reid.py',
    '../_base_/schedules/adamw_14e_reid.py',
    '../_base_/default_runtime_reid.py',
]

model = dict(backbone=dict(**_base_.backbone, mask_padding=True))

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=(56, 112))
train_pipeline[3].update(crop_size=(112, 56))
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(56, 112))

train_dataloader = dict(
    batch_size=64, dataset=dict(pipeline=train_pipeline), sampler=dict(num_persons=16)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# Half as many steps of twice as many images tell people apart better, and are faster.
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
auto_scale_lr = dict(base_batch_size=64)
train_cfg = dict(max_epochs=30, val_interval=30)
