# Fashion-MNIST from its four published files, which may be read-only.
# Where they are: `--cfg-options data_root=/path`, or the environment variable FASHION_MNIST_ROOT.
dataset_type = 'effvit_mm.FashionMNIST'
data_root = '{{$FASHION_MNIST_ROOT:data/fashion_mnist}}'

data_preprocessor = dict(mean=[72.94] * 3, std=[90.02] * 3, to_rgb=False)

# Upscaled a little: the network divides the resolution by 32. Mirroring alone is what a training of
# a few epochs can use; longer ones gain from RandomCrop with padding and RandomErasing.
train_pipeline = [
    dict(type='Resize', scale=40),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='Resize', scale=40),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(type=dataset_type, data_root=data_root, split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
