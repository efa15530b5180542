"""timm's names of ``mvitv2_{tiny,small,base}`` to ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..convert import Rule

_MLP = {'fc1': '0', 'fc2': '2'}
_BLOCK = r'stages\.(\d+)\.blocks\.(\d+)\.'
_OURS = r'backbone.stages.\1.\2.'


def _mlp(m: re.Match) -> str:
    return f'backbone.stages.{m[1]}.{m[2]}.mlp.{_MLP[m[3]]}.{m[4]}'


RULES: list[Rule] = [
    (r'patch_embed\.proj\.(\w+)', r'backbone.stem.\1'),
    (_BLOCK + r'(norm[12]|attn\.qkv|attn\.proj)\.(\w+)', _OURS + r'\3.\4'),
    (_BLOCK + r'attn\.pool_([qkv])\.(\w+)', _OURS + r'attn.pool_\3.conv.\4'),
    (_BLOCK + r'attn\.norm_([qkv])\.(\w+)', _OURS + r'attn.pool_\3.norm.\4'),
    (_BLOCK + r'attn\.(rel_pos_[hw])', _OURS + r'attn.relative_position.\3'),
    (_BLOCK + r'shortcut_proj_attn\.(\w+)', _OURS + r'shortcut_proj.\3'),
    (_BLOCK + r'mlp\.(fc[12])\.(\w+)', _mlp),
    (r'norm\.(\w+)', r'backbone.norm.\1'),
    (r'head\.fc\.(\w+)', r'head.fc.\1'),
]
