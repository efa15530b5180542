_base_ = [
    '../_base_/models/rtmdet_csp-pan.py',
    '../_base_/backbones/pslt-tiny.py',
    '../_base_/datasets/coco_detection_320.py',
    '../_base_/schedules/adamw_300e_det.py',
    '../_base_/default_runtime_det_ema.py',
]

# Every ten steps batches get another size, of 224 to 416 pixels.
model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(type='BatchSyncRandomResize', random_size_range=(224, 416), interval=10)
        ]
    ),
    backbone=dict(_delete_=True, **{**_base_.backbone, 'out_indices': (1, 2, 3)}),
)
