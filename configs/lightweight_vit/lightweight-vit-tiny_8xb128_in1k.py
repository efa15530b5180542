# By DeiT's recipe: the paper's was not available. The first three blocks see all tokens: their class
# token cannot tell yet which of them matter.
_base_ = [
    '../_base_/models/deit.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_deit_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(attention=dict(type='effvit_mm.EAttention'), sampled_blocks=tuple(range(3, 12)))
)
