# What every training of a re-ID model shares. The best checkpoint is that of the best mAP.
_base_ = './default_runtime.py'

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(max_keep_ckpts=2))
