# From scratch, by DeiT's recipe. The masked softmax stays for the whole training, with the paper's
# threshold of 0.02: four times the even share of 197 tokens. The hook logs how much passes it.
_base_ = './deit-tiny_8xb128_in1k.py'

model = dict(backbone=dict(attention=dict(type='effvit_mm.LinearAngularAttention')))
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook')]
