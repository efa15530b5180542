# As retinanet_pslt-tiny_folder.py: a light one-stage detector, on images of 416 pixels.
_base_ = [
    '../_base_/models/rtmdet_csp-pan.py',
    '../_base_/backbones/pslt-tiny.py',
    '../_base_/datasets/coco_folder_416.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det_ema.py',
]

model = dict(
    backbone=dict(
        _delete_=True, **{**_base_.backbone, 'out_indices': (1, 2, 3)}, drop_path_rate=0.0
    ),
    bbox_head=dict(num_classes=None),  # counted
)

# Its images are cut out of larger ones: an epoch shows less, and costs less.
train_cfg = dict(max_epochs=72, val_interval=6)
