"""timm's names of DeiT's weights, with and without a distillation token."""

from __future__ import annotations

from .rules import Rule, rule, same

_BLOCK = {str(n): f'{n // 3}.{n % 3}' for n in range(12)}  # four stages of three blocks

_SHARED: list[Rule] = [
    rule('{t}', 'backbone.stem.{t}', t=same('cls_token', 'dist_token', 'pos_embed')),
    rule('patch_embed.proj.{p}', 'backbone.stem.proj.{p}'),
    rule('blocks.{block}.norm{n}.{p}', 'backbone.stages.{block}.norm{n}.{p}', block=_BLOCK),
    rule(
        'blocks.{block}.{module}.{layer}.{p}',
        'backbone.stages.{block}.{module}.{layer}.{p}',
        block=_BLOCK,
    ),
    rule('norm.{p}', 'backbone.norm.{p}'),
]
RULES: list[Rule] = [*_SHARED, rule('head.{p}', 'head.fc.{p}')]
DISTILLED_RULES: list[Rule] = [
    *_SHARED,
    rule('{head}.{p}', 'head.fcs.{head}.{p}', head={'head': '0', 'head_dist': '1'}),
]
