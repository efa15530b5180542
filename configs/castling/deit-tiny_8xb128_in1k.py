# Softmax attention: what castling-deit-tiny_finetune_8xb128_in1k.py starts from.
_base_ = [
    '../_base_/models/deit.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_deit_300e.py',
    '../_base_/default_runtime.py',
]
