# The people of walker_scenes.py, cut out: 240 to train, 16 to test, 16 cameras. Made on first use.
# Where they are put: `--cfg-options data_root=/path`, or WALKER_SCENES_ROOT.
_base_ = './walkers.py'

data_root = '{{$WALKER_SCENES_ROOT:data/walker_scenes}}'

train_dataloader = dict(dataset=dict(source='walker_scenes', data_root=data_root))
val_dataloader = dict(dataset=dict(source='walker_scenes', data_root=data_root))
test_dataloader = val_dataloader
