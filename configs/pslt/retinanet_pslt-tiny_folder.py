# One's own objects in a COCO-style folder: `--cfg-options data_root=/path` is all that it needs, or
# COCO_FOLDER_ROOT. With pretrained weights, add to --cfg-options
# model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=weights.pth
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/backbones/pslt-tiny.py',
    '../_base_/datasets/coco_folder.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(_delete_=True, **_base_.backbone, drop_path_rate=0.0),
    bbox_head=dict(num_classes=None),  # counted
)
