"""timm's names of DeiT's weights, with and without a distillation token."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..convert import Rule


def _block(m: re.Match) -> str:
    stage, block = divmod(int(m[1]), 3)  # four stages of three blocks
    return f'backbone.stages.{stage}.{block}.{m[2]}'


_SHARED: list[Rule] = [
    (r'(cls_token|dist_token|pos_embed)', r'backbone.stem.\1'),
    (r'patch_embed\.proj\.(\w+)', r'backbone.stem.proj.\1'),
    (r'blocks\.(\d+)\.((?:norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.\w+)', _block),
    (r'norm\.(\w+)', r'backbone.norm.\1'),
]
RULES: list[Rule] = [*_SHARED, (r'head\.(\w+)', r'head.fc.\1')]
DISTILLED_RULES: list[Rule] = [
    *_SHARED,
    (r'head\.(\w+)', r'head.fcs.0.\1'),
    (r'head_dist\.(\w+)', r'head.fcs.1.\1'),
]
