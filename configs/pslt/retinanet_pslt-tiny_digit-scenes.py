# The demonstration of detection: `make demo-det`. The backbone starts from the digits' classifier,
# which the Makefile names.
_base_ = [
    '../_base_/models/retinanet_small.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(bbox_head=dict(num_classes=10))

# Canvases as they are, and smaller: smaller ones cost less and show digits in more sizes.
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=(320, 256), ratio_range=(0.65, 1.05))
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(320, 256))
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=6, val_interval=2)
