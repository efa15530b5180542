"""CrossViT's published names, which are timm's but for ``cls_token.0`` and ``pos_embed.0``."""

from __future__ import annotations

from .rules import Rule, dropped, rule, same

_TOKENS = same('cls_token', 'pos_embed')
_BLOCK, _OURS = 'blocks.{i}.blocks.{b}.{j}', 'backbone.stages.{i}.blocks.{b}.{j}'
_FUSION = 'backbone.stages.{i}.fusions.{b}'

RULES: list[Rule] = [
    dropped(r'.*\.(total_ops|total_params)|total_(ops|params)'),
    rule('{token}_{b}', 'backbone.stem.{b}.{token}', token=_TOKENS),  # timm
    rule('{token}.{b}', 'backbone.stem.{b}.{token}', token=_TOKENS),  # the authors
    rule('patch_embed.{b}.proj.{p}', 'backbone.stem.{b}.proj.{p}'),
    rule('patch_embed.{b}.proj.{k}.{p}', 'backbone.stem.{b}.proj.{k}.{p}'),  # dagger
    rule(f'{_BLOCK}.norm{{n}}.{{p}}', f'{_OURS}.norm{{n}}.{{p}}'),
    rule(f'{_BLOCK}.{{module}}.{{layer}}.{{p}}', f'{_OURS}.{{module}}.{{layer}}.{{p}}'),
    rule('blocks.{i}.projs.{b}.{k}.{p}', _FUSION + '.project.{k}.{p}'),
    rule('blocks.{i}.fusion.{b}.norm1.{p}', _FUSION + '.norm.{p}'),
    rule(
        'blocks.{i}.fusion.{b}.attn.{layer}.{p}',
        _FUSION + '.attn.{layer}.{p}',
        layer={'wq': 'q', 'wk': 'k', 'wv': 'v', 'proj': 'proj'},
    ),
    rule('blocks.{i}.revert_projs.{b}.{k}.{p}', _FUSION + '.revert.{k}.{p}'),
    rule('norm.{b}.{p}', 'backbone.norms.{b}.{p}'),
    rule('head.{b}.{p}', 'head.fcs.{b}.{p}'),
]
