# MSMT17 by its list files, read by torchreid's class: 1,041 people to train, 11,659 queries in
# 82,161 images, 15 cameras.
# Where it is: `--cfg-options data_root=/path`, or the environment variable MSMT17_ROOT: the folder
# with MSMT17_V1 or MSMT17_V2 (whose faces are blurred), or that one itself. Where both are there say
# which: source_args=dict(version='V2') in each loader's dataset. Papers train on train and val:
# source_args=dict(version='V2', train='train+val').
_base_ = './reid_folder.py'

data_root = '{{$MSMT17_ROOT:data/msmt17}}'

train_dataloader = dict(dataset=dict(source='msmt17', data_root=data_root))
val_dataloader = dict(dataset=dict(source='msmt17', data_root=data_root))
test_dataloader = val_dataloader
