"""The published names of PSLT's weights, and what the authors' training leaves in a checkpoint."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..convert import Rule

# In the published code: position of a layer in the flat sequence of a block -> ours.
_CONV_BLOCK = {
    '0': 'expand.0',
    '2': 'expand.2',
    '3': 'depthwise.0',
    '5': 'depthwise.2',
    '6': 'project.0',
    '7': 'project.1',
}
_FUSION = {'se.fc1': 'fc1', 'se.fc2': 'fc2', 'pointconv': 'proj'}


def _pslt_stem(m: re.Match) -> str:
    layer, part = divmod(int(m[1]), 3)
    return f'backbone.stem.{layer}.{part}.{m[2]}'


def _pslt_inverted(m: re.Match) -> str:
    stage, block = divmod(int(m[1]), 3)
    part = m[2] if m[2].startswith('se') else _CONV_BLOCK[m[2].removeprefix('conv.')]
    return f'backbone.stages.{stage}.{block}.{part}.{m[3]}'


def _pslt_branch(m: re.Match) -> str:
    part = m[4]
    if part.startswith('mlp.conv.'):
        part = f'ffn.{_CONV_BLOCK[part.removeprefix("mlp.conv.")]}'
    part = part.replace('attn.kv', 'attn.qk')  # the published "kv" yields q and k
    return f'backbone.stages.{int(m[1]) + 2}.{int(m[2]) + 1}.branches.{m[3]}.{part}{m[5]}'


RULES: list[Rule] = [
    (r'.*\.(total_ops|total_params|attn_mask|relative_position_index)|total_(ops|params)', None),
    (r'patch_embed\.proj\.(\d)\.(\w+)', _pslt_stem),
    (r'conv_layers\.([0-6])\.(conv\.[023567]|se\.fc[12])\.(\w+)', _pslt_inverted),
    (
        r'layers\.([01])\.blocks\.(\d+)\.blocks\.(\d)\.'
        r'(norm[12]|attn\.(?:qkv|kv|proj)|attn|mlp\.conv\.[023567])'
        r'(\.\w+)',
        _pslt_branch,
    ),
    (
        r'layers\.([01])\.blocks\.(\d+)\.(se\.fc[12]|pointconv)\.(\w+)',
        lambda m: f'backbone.stages.{int(m[1]) + 2}.{int(m[2]) + 1}.fusion.{_FUSION[m[3]]}.{m[4]}',
    ),
    (r'layers\.0\.downsample\.(norm|reduction)\.(\w+)', r'backbone.stages.3.0.\1.\2'),
    (r'norm\.(\w+)', r'backbone.norm.\1'),
    (r'head\.(\w+)', r'head.fc.\1'),
]
