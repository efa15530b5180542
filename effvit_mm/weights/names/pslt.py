"""The published names of PSLT's weights, and what the authors' training leaves in a checkpoint."""

from __future__ import annotations

from .rules import Rule, dropped, rule, same

# In the published code: position of a layer in the flat sequence of a block. Ours follows.
_PART = {
    '0': 'expand.0',
    '2': 'expand.2',
    '3': 'depthwise.0',
    '5': 'depthwise.2',
    '6': 'project.0',
    '7': 'project.1',
}
_THREES = {str(n): f'{n // 3}.{n % 3}' for n in range(9)}  # stem's layers; blocks of a stage
_LADDER = {f'layers.{i}.blocks.{j}': f'stages.{i + 2}.{j + 1}' for i in (0, 1) for j in range(10)}
_BRANCH, _OURS = '{ladder}.blocks.{b}.', 'backbone.{ladder}.branches.{b}.'
_TABLE = 'attn.relative_position_bias_table'

RULES: list[Rule] = [
    dropped(r'.*\.(total_ops|total_params|attn_mask|relative_position_index)|total_(ops|params)'),
    rule('patch_embed.proj.{n}.{p}', 'backbone.stem.{n}.{p}', n=_THREES),
    rule('conv_layers.{n}.conv.{k}.{p}', 'backbone.stages.{n}.{k}.{p}', n=_THREES, k=_PART),
    rule('conv_layers.{n}.se.{fc}.{p}', 'backbone.stages.{n}.se.{fc}.{p}', n=_THREES),
    rule(_BRANCH + 'norm{n}.{p}', _OURS + 'norm{n}.{p}', ladder=_LADDER),
    rule(
        _BRANCH + 'attn.{layer}.{p}',
        _OURS + 'attn.{layer}.{p}',
        ladder=_LADDER,
        layer={'qkv': 'qkv', 'kv': 'qk', 'proj': 'proj'},  # the published "kv" yields q and k
    ),
    rule(_BRANCH + _TABLE, _OURS + _TABLE, ladder=_LADDER),
    rule(_BRANCH + 'mlp.conv.{k}.{p}', _OURS + 'ffn.{k}.{p}', ladder=_LADDER, k=_PART),
    rule(
        '{ladder}.{layer}.{p}',
        'backbone.{ladder}.fusion.{layer}.{p}',
        ladder=_LADDER,
        layer={'se.fc1': 'fc1', 'se.fc2': 'fc2', 'pointconv': 'proj'},
    ),
    rule(
        'layers.0.downsample.{layer}.{p}',
        'backbone.stages.3.0.{layer}.{p}',
        layer=same('norm', 'reduction'),
    ),
    rule('norm.{p}', 'backbone.norm.{p}'),
    rule('head.{p}', 'head.fc.{p}'),
]
