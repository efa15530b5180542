# Drawn pedestrians, made on first use: 192 people to train, 32 to test, four cameras, 128 x 64.
# Where they are put: `--cfg-options data_root=/path`, or the environment variable WALKERS_ROOT.
_base_ = './reid_folder.py'

data_root = '{{$WALKERS_ROOT:data/walkers}}'

# In their own size, shifted by half as much. Three images of each camera are few: the sampler puts
# different cameras' together.
train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=(64, 128))
train_pipeline[3].update(crop_size=(128, 64), padding=5)
train_pipeline[4].update(erase_prob=0.2)  # from scratch and in few steps, more is too much
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(64, 128))

train_dataloader = dict(
    num_workers=1,
    dataset=dict(source='walkers', data_root=data_root, pipeline=train_pipeline),
    sampler=dict(across_cameras=True),
)
val_dataloader = dict(
    num_workers=1, dataset=dict(source='walkers', data_root=data_root, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
