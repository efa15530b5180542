# DukeMTMC-reID, read by torchreid's class: 16,522 images of 702 people to train, 2,228 queries in
# 17,661 images. Its authors withdrew it; published figures are still compared on it.
# Where it is: `--cfg-options data_root=/path`, or the environment variable DUKEMTMC_ROOT; torchreid's
# root, or the folder DukeMTMC-reID itself.
_base_ = './reid_folder.py'

data_root = '{{$DUKEMTMC_ROOT:data/dukemtmc-reid}}'

train_dataloader = dict(dataset=dict(source='dukemtmcreid', data_root=data_root))
val_dataloader = dict(dataset=dict(source='dukemtmcreid', data_root=data_root))
test_dataloader = val_dataloader
