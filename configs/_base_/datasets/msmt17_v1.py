# MSMT17's version 1; see msmt17.py.
_base_ = './msmt17.py'

source_args = dict(version='V1')

train_dataloader = dict(dataset=dict(source_args=source_args))
val_dataloader = dict(dataset=dict(source_args=source_args))
test_dataloader = val_dataloader
