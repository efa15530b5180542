# CUHK03's new protocol on hand-drawn boxes.
_base_ = './cuhk03.py'

source_args = dict(cuhk03_labeled=True)

train_dataloader = dict(dataset=dict(source_args=source_args))
val_dataloader = dict(dataset=dict(source_args=source_args))
test_dataloader = val_dataloader
