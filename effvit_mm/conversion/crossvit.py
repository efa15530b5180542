"""CrossViT's published names, which are timm's but for ``cls_token.0`` and ``pos_embed.0``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..convert import Rule

RULES: list[Rule] = [
    (r'.*\.(total_ops|total_params)|total_(ops|params)', None),
    (r'(cls_token|pos_embed)[._]([01])', r'backbone.stem.\2.\1'),
    (r'patch_embed\.([01])\.proj\.(.+)', r'backbone.stem.\1.proj.\2'),
    (
        r'blocks\.(\d+)\.blocks\.([01])\.(\d+)\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.(\w+)',
        r'backbone.stages.\1.blocks.\2.\3.\4.\5',
    ),
    (r'blocks\.(\d+)\.projs\.([01])\.(\d)\.(\w+)', r'backbone.stages.\1.fusions.\2.project.\3.\4'),
    (r'blocks\.(\d+)\.fusion\.([01])\.norm1\.(\w+)', r'backbone.stages.\1.fusions.\2.norm.\3'),
    (
        r'blocks\.(\d+)\.fusion\.([01])\.attn\.w([qkv])\.(\w+)',
        r'backbone.stages.\1.fusions.\2.attn.\3.\4',
    ),
    (
        r'blocks\.(\d+)\.fusion\.([01])\.attn\.proj\.(\w+)',
        r'backbone.stages.\1.fusions.\2.attn.proj.\3',
    ),
    (
        r'blocks\.(\d+)\.revert_projs\.([01])\.(\d)\.(\w+)',
        r'backbone.stages.\1.fusions.\2.revert.\3.\4',
    ),
    (r'norm\.([01])\.(\w+)', r'backbone.norms.\1.\2'),
    (r'head\.([01])\.(\w+)', r'head.fcs.\1.\2'),
]
