# From the weights at 240 pixels, classifier included; the position embeddings are interpolated.
# Where they are: --cfg-options load_from=path
_base_ = [
    '../_base_/models/crossvit.py',
    '../_base_/datasets/imagenet_408.py',
    '../_base_/schedules/imagenet_adamw_finetune_30e.py',
    '../_base_/default_runtime.py',
]

# The authors' script fine-tunes in evaluation mode, which is without stochastic depth.
model = dict(backbone=dict(arch='15_dagger_408', drop_path_rate=0.0), head=dict(widths=(192, 384)))
load_from = 'work_dirs/crossvit-15-dagger_32xb128_in1k/epoch_300.pth'

train_dataloader = dict(batch_size=32)
val_dataloader = dict(batch_size=32)
test_dataloader = val_dataloader
