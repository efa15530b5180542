# One's own images: data_root/train/<class>/*.jpg and data_root/val/<class>/*.jpg.
# Where they are: `--cfg-options data_root=/path`, or the environment variable IMAGE_FOLDER_ROOT.
# A head whose num_classes is None gets the number of its classes; a wrong one is an error.
# Corrupt images end the run; `skip_corrupt=True` in a data set leaves them out, named and counted.
# A class folder without images is an error in training, unless `allow_empty_classes=True`.
dataset_type = 'effvit_mm.ImageFolder'
data_root = '{{$IMAGE_FOLDER_ROOT:data/images}}'

data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

train_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(0.25, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
        skip_corrupt=False,
        allow_empty_classes=False,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
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
val_evaluator = dict(type='Accuracy', topk=(1,))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
