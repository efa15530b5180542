# As retinanet_pslt-tiny_folder.py, with masks.
_base_ = [
    '../_base_/models/mask-rcnn_fpn.py',
    '../_base_/backbones/pslt-tiny.py',
    '../_base_/datasets/coco_folder_masks.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(_delete_=True, **_base_.backbone, drop_path_rate=0.0),
    roi_head=dict(bbox_head=dict(num_classes=None), mask_head=dict(num_classes=None)),  # counted
)
