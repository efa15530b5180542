# Market-1501, read by torchreid's class: 12,936 images of 751 people to train, 3,368 queries in
# 15,913 images and distractors.
# Where it is: `--cfg-options data_root=/path`, or the environment variable MARKET1501_ROOT; either
# torchreid's root or the folder with bounding_box_train.
_base_ = './reid_folder.py'

data_root = '{{$MARKET1501_ROOT:data/market1501}}'

train_dataloader = dict(dataset=dict(source='market1501', data_root=data_root))
val_dataloader = dict(dataset=dict(source='market1501', data_root=data_root))
test_dataloader = val_dataloader
