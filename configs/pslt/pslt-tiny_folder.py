# One's own images in class folders. With pretrained weights, add to --cfg-options
# model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=weights.pth
_base_ = [
    '../_base_/models/pslt_tiny.py',
    '../_base_/datasets/image_folder.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

# A quarter of the schedule's rate, which is too high for batches of eight (docs/classification.md).
optim_wrapper = dict(optimizer=dict(lr=5e-4))

model = dict(head=dict(num_classes=None))  # counted
