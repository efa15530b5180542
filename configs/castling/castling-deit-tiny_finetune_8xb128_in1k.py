# From softmax attention, classifier included. The schedule is ours, not the paper's: a third of the
# epochs at a quarter of the rate. The threshold rises until nothing is left of the masked softmax;
# the last 10 epochs train what inference runs, the linear part alone.
# Where the weights are: --cfg-options load_from=path
_base_ = './castling-deit-tiny_8xb128_in1k.py'

load_from = 'work_dirs/deit-tiny_8xb128_in1k/epoch_300.pth'

optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
train_cfg = dict(max_epochs=100)
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook', final_threshold=0.5, drop_epoch=90)]
