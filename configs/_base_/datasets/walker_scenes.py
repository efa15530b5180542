# Drawn pedestrians in front of 16 cameras, made on first use, in half a minute: 406 frames to
# train, 152 with other people to test. The same set has people cut out for re-identification
# (walker_scenes_reid.py) and videos of other cameras to search in.
# Where they are put: `--cfg-options data_root=/path`, or WALKER_SCENES_ROOT.
dataset_type = 'effvit_mm.WalkerScenes'
data_root = '{{$WALKER_SCENES_ROOT:data/walker_scenes}}'

train_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=(320, 240), ratio_range=(0.7, 1.0), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion', brightness_delta=24, contrast_range=(0.8, 1.2)),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + '/annotations/test.json', metric='bbox'
)

test_dataloader = val_dataloader
test_evaluator = val_evaluator
