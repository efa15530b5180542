"""timm's names of ``mvitv2_{tiny,small,base}`` and ours."""

from __future__ import annotations

from .rules import Rule, rule, same

_BLOCK, _OURS = 'stages.{i}.blocks.{j}.', 'backbone.stages.{i}.{j}.'

RULES: list[Rule] = [
    rule('patch_embed.proj.{p}', 'backbone.stem.{p}'),
    rule(_BLOCK + 'norm{n}.{p}', _OURS + 'norm{n}.{p}'),
    rule(_BLOCK + 'attn.{layer}.{p}', _OURS + 'attn.{layer}.{p}', layer=same('qkv', 'proj')),
    rule(_BLOCK + 'attn.pool_{x}.{p}', _OURS + 'attn.pool_{x}.conv.{p}'),
    rule(_BLOCK + 'attn.norm_{x}.{p}', _OURS + 'attn.pool_{x}.norm.{p}'),
    rule(_BLOCK + 'attn.rel_pos_{axis}', _OURS + 'attn.relative_position.rel_pos_{axis}'),
    rule(_BLOCK + 'shortcut_proj_attn.{p}', _OURS + 'shortcut_proj.{p}'),
    rule(_BLOCK + 'mlp.{fc}.{p}', _OURS + 'mlp.{fc}.{p}', fc={'fc1': '0', 'fc2': '2'}),
    rule('norm.{p}', 'backbone.norm.{p}'),
    rule('head.fc.{p}', 'head.fc.{p}'),
]
