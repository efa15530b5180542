# scikit-learn's real handwritten digits, 8x8 grey, made as PNG files on first use: 1,442 to train,
# 355 to test. Where they are put: `--cfg-options data_root=/path`, or DIGITS_ROOT.
# Corrupt images end the run; `skip_corrupt=True` in a data set leaves them out, named and counted.
dataset_type = 'effvit_mm.Digits'
data_root = '{{$DIGITS_ROOT:data/digits}}'

data_preprocessor = dict(mean=[77.8] * 3, std=[95.9] * 3, to_rgb=True)

# Upscaled four times. Shifted, turned and slanted a little; never flipped.
train_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=32, interpolation='bicubic'),
    dict(
        type='Rotate',
        prob=0.7,
        magnitude_level=10,
        magnitude_range=(0, 12),
        magnitude_std='inf',
        pad_val=0,
        interpolation='bilinear',
    ),
    dict(
        type='Shear',
        prob=0.5,
        magnitude_level=10,
        magnitude_range=(0, 0.2),
        magnitude_std='inf',
        pad_val=0,
        interpolation='bilinear',
    ),
    dict(type='RandomCrop', crop_size=32, padding=3),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=32, interpolation='bicubic'),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
        skip_corrupt=False,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        pipeline=test_pipeline,
        skip_corrupt=False,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
