# CUHK03, read by torchreid's class: the new protocol (767 people to train, 700 to test) on detected
# boxes. cuhk03_labeled.py has hand-drawn boxes, cuhk03_classic.py the protocol of 20 splits.
# Where it is: `--cfg-options data_root=/path`, or the environment variable CUHK03_ROOT: the folder
# with cuhk03_release/cuhk-03.mat and the two cuhk03_new_protocol_config_*.mat. On first use the
# images are unpacked there, by one process.
_base_ = './reid_folder.py'

data_root = '{{$CUHK03_ROOT:data/cuhk03}}'
source_args = dict(cuhk03_labeled=False)

train_dataloader = dict(dataset=dict(source='cuhk03', data_root=data_root, source_args=source_args))
val_dataloader = dict(dataset=dict(source='cuhk03', data_root=data_root, source_args=source_args))
test_dataloader = val_dataloader
