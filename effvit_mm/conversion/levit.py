"""timm's names of LeViT's weights (``levit_*``; not ``levit_conv_*``) to ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..convert import Rule

# timm's name of a layer inside an attention or MLP -> ours.
_LAYER = {
    'qkv': 'qkv',
    'kv': 'kv',
    'q.ln': 'q',
    'proj.ln': 'proj',
    'ln1': 'fc1',
    'ln2': 'fc2',
}
_PART = {'linear': 'linear', 'bn': 'norm'}


def _stem(m: re.Match) -> str:
    index = int(m[1]) - 1  # the third convolution ends our stage 0, the fourth begins stage 1
    place = f'stem.{index}' if index < 2 else f'stages.{index - 2}.0'
    return f'backbone.{place}.{"0" if m[2] == "linear" else "1"}.{m[3]}'


def _block(stage: str, place: str) -> str:
    """``stages.I.downsample`` or ``stages.I.blocks.J``: ours counts both in one sequence."""
    index = 0 if place == 'downsample' else int(place.removeprefix('blocks.')) + 1
    return f'backbone.stages.{int(stage) + 1}.{index}'


def _layer(m: re.Match) -> str:
    module = 'mlp' if m[3] == 'mlp' else 'attn'
    return f'{_block(m[1], m[2])}.{module}.{_LAYER[m[4]]}.{_PART[m[5]]}.{m[6]}'


def _bias(m: re.Match) -> str:
    return f'{_block(m[1], m[2])}.attn.relative_position_bias.table'


RULES: list[Rule] = [
    (r'.*\.attention_bias_idxs', None),
    (r'stem\.conv([1-4])\.(linear|bn)\.(\w+)', _stem),
    (
        r'stages\.([0-2])\.(downsample|blocks\.\d+)\.(attn_downsample|attn|mlp)\.'
        r'(qkv|kv|q\.ln|proj\.ln|ln[12])\.(linear|bn)\.(\w+)',
        _layer,
    ),
    (
        r'stages\.([0-2])\.(downsample|blocks\.\d+)\.(?:attn_downsample|attn)\.attention_biases',
        _bias,
    ),
    (r'(head|head_dist)\.(bn|linear)\.(\w+)', r'head.\1.\2.\3'),
]
