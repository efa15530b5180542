# One's own COCO-style set: data_root/annotations/{train,val}.json, data_root/images/*.jpg; or as
# Roboflow exports it, data_root/{train,valid}/_annotations.coco.json beside their images.
# Where it is: `--cfg-options data_root=/path`, or the environment variable COCO_FOLDER_ROOT.
# Other names, below data_root:
#   --cfg-options data_root=/path train_annotations=train.json val_annotations=test.json \
#       train_images=images val_images=images
# Classes are read from the annotation file of training, by name. A head whose num_classes is None
# gets their number; a wrong one is an error that names both.
# `python tools/analysis_tools/check_dataset.py CONFIG` looks for faults in it.
dataset_type = 'effvit_mm.CocoFolder'
data_root = '{{$COCO_FOLDER_ROOT:data/coco_folder}}'
train_annotations = 'annotations/train.json'
val_annotations = 'annotations/val.json'
train_images = 'images'
val_images = 'images'

train_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=(640, 480), ratio_range=(0.8, 1.2), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=(640, 480), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=train_annotations,
        classes_from=train_annotations,
        data_prefix=dict(img=train_images),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
        skip_corrupt=False,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=val_annotations,
        classes_from=train_annotations,
        data_prefix=dict(img=val_images),
        test_mode=True,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='CocoMetric', ann_file=data_root + '/' + val_annotations, metric='bbox')

test_dataloader = val_dataloader
test_evaluator = val_evaluator
