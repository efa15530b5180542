# The sample set for detection: scikit-learn's handwritten digits, 14 to 64 pixels high, on textured
# canvases of about 224x192. Made on first use, in half a minute: 600 scenes to train, 150 to test.
# Where they are put: `--cfg-options data_root=/path`, or DIGIT_SCENES_ROOT.
# Boxes; for masks as well take digit_scenes_masks.py.
dataset_type = 'effvit_mm.DigitScenes'
data_root = '{{$DIGIT_SCENES_ROOT:data/digit_scenes}}'

# Never flipped: these are digits. Canvases are brought to one size, and somewhat smaller.
train_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=(224, 192), ratio_range=(0.75, 1.0), keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=(224, 192), keep_ratio=True),
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
