"""timm's names of LeViT's weights (``levit_*``; not ``levit_conv_*``) and ours."""

from __future__ import annotations

from .rules import Rule, dropped, rule, same

# timm's first; the third convolution of the stem ends our stage 0, the fourth begins stage 1.
_STEM = {'conv1': 'stem.0', 'conv2': 'stem.1', 'conv3': 'stages.0.0', 'conv4': 'stages.1.0'}
_DOWN = {f'stages.{i}.downsample': f'stages.{i + 1}.0' for i in range(3)}
_BLOCKS = {f'stages.{i}.blocks.{j}': f'stages.{i + 1}.{j + 1}' for i in range(3) for j in range(4)}
_ATTENTION = {
    **{f'{theirs}.attn_downsample': f'{ours}.attn' for theirs, ours in _DOWN.items()},
    **{f'{theirs}.attn': f'{ours}.attn' for theirs, ours in _BLOCKS.items()},
}
_ATTENTION_LAYER = {'qkv': 'qkv', 'kv': 'kv', 'q.ln': 'q', 'proj.ln': 'proj'}
_PART = {'linear': 'linear', 'bn': 'norm'}

RULES: list[Rule] = [
    dropped(r'.*\.attention_bias_idxs'),
    rule(
        'stem.{conv}.{part}.{p}',
        'backbone.{conv}.{part}.{p}',
        conv=_STEM,
        part={'linear': '0', 'bn': '1'},
    ),
    rule(
        '{attn}.{layer}.{part}.{p}',
        'backbone.{attn}.{layer}.{part}.{p}',
        attn=_ATTENTION,
        layer=_ATTENTION_LAYER,
        part=_PART,
    ),
    rule(
        '{attn}.attention_biases',
        'backbone.{attn}.relative_position_bias.table',
        attn=_ATTENTION,
    ),
    rule(
        '{block}.mlp.ln{n}.{part}.{p}',
        'backbone.{block}.mlp.fc{n}.{part}.{p}',
        block=_DOWN | _BLOCKS,
        part=_PART,
    ),
    rule('{head}.{layer}.{p}', 'head.{head}.{layer}.{p}', head=same('head', 'head_dist')),
]
