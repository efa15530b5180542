# As retinanet_pslt-tiny_folder.py, on one's own set in YOLO's layout: `--cfg-options data_root=/path`,
# the folder with data.yaml, is all that it needs, or YOLO_FOLDER_ROOT. The *_folder.py configs take
# such a folder, too, as they find data.yaml there.
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/backbones/pslt-tiny.py',
    '../_base_/datasets/yolo_folder.py',
    '../_base_/schedules/adamw_18e_det.py',
    '../_base_/default_runtime_det.py',
]

model = dict(
    backbone=dict(_delete_=True, **_base_.backbone, drop_path_rate=0.0),
    bbox_head=dict(num_classes=None),  # counted
)
