# WARD with Market-1501's names: 70 people, 3 cameras; 35 people to train, 840 images.
# Where it is: `--cfg-options data_root=/path`, or the environment variable WARD_ROOT.
_base_ = './reid_folder.py'

data_root = '{{$WARD_ROOT:data/ward}}'

train_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
