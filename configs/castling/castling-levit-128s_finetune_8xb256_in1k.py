# From softmax attention, both heads included. The schedule is ours, not the paper's: a tenth of the
# epochs at a quarter of the rate. The threshold rises until nothing is left of the masked softmax;
# the last 10 epochs train what inference runs, the linear part alone.
# Where the weights are, in our names: --cfg-options load_from=path
_base_ = './castling-levit-128s_8xb256_in1k.py'

load_from = 'weights/levit_128s.safetensors'

optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_epochs=100)
custom_hooks = [
    *_base_.custom_hooks[:-1],
    dict(type='effvit_mm.MaskedSoftmaxHook', final_threshold=0.5, drop_epoch=90),
]
# Without that softmax the position bias has no gradient.
find_unused_parameters = True
