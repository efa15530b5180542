# ImageNet-1k at 224 pixels with DeiT's augmentation.
# Where it is: `--cfg-options data_root=/path`, or the environment variable IMAGENET_ROOT.
# Corrupt images end the run; `skip_corrupt=True` in a data set leaves them out, named and counted:
# `--cfg-options train_dataloader.dataset.skip_corrupt=True`.
dataset_type = 'effvit_mm.ImageNet'
data_root = '{{$IMAGENET_ROOT:data/imagenet}}'

data_preprocessor = dict(
    num_classes=1000,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    # rand-m9-mstd0.5-inc1. The recipe's colour jitter of 0.4 has no effect beside it: timm, which
    # the recipe's options are of, jitters only where RandAugment is off. To have both, insert
    # dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4) before it.
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=data_preprocessor['mean'][::-1],
        fill_std=data_preprocessor['std'][::-1],
    ),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
        skip_corrupt=False,
    ),
    sampler=dict(type='RepeatAugSampler', shuffle=True, num_repeats=3),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='val',
        pipeline=test_pipeline,
        skip_corrupt=False,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
