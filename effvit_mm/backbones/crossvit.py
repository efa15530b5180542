"""CrossViT: two branches of different patch size that exchange their class tokens.

Chen, Fan, Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image
Classification", ICCV 2021, arXiv 2103.14899. Branch 0 is the paper's small branch S (patches of 12
pixels, narrow, shallow), branch 1 its large branch L (patches of 16 pixels).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..attention.mechanism import Size
from .base import Backbone, check_choice, drop_path_rates, init_linear_layers
from .crossvit_blocks import BRANCHES, MultiScaleStage
from .crossvit_stem import PATCH_EMBEDDINGS, BranchEmbedding, branch_grid
from .transformer import OUT_TYPES, LayerNorm

PATCH_SIZES = (12, 16)
NUM_STAGES = 3  # multi-scale blocks

# What each branch sees: its image's side, as a fraction of the input's. The weights were trained
# with S on 240 and L on 224 pixels; dense tasks want L's cells to be 16 pixels of the input.
MODES: dict[str, tuple[Size, Size]] = {
    'parity': ((1, 1), (224, 240)),
    'dense': ((240, 224), (1, 1)),
}


def used_branches(
    wanted: tuple[int, ...], class_tokens: bool
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """For each stage, the branches whose blocks and whose fusions have a part in the output.

    ``wanted`` are the branches that are returned: their class tokens or their patch tokens. A
    fusion needs the blocks of both branches; without one, a branch needs only its own.
    """
    plan: list = []
    fused = wanted if class_tokens else ()
    for _ in range(NUM_STAGES):
        blocks = BRANCHES if fused else wanted
        plan.insert(0, (blocks, fused))
        fused = blocks
    return plan


def stage_windows(window_size: int | None, stage: int, depth: int) -> list[list[int | None]]:
    """For each branch the windows of its blocks in a stage, None where a block sees the whole map.

    The last block of L in each stage does, and S's last of all: S, one block a stage, is the branch
    that is dear. Its windows still learn of each other by the class token.

    Raises:
        ValueError: ``window_size`` is neither None nor a positive int.
    """
    if window_size is not None and (type(window_size) is not int or window_size < 1):
        raise ValueError(f'window_size={window_size!r}: None or a positive int is needed')
    small = None if stage == NUM_STAGES - 1 else window_size
    return [[small], [window_size] * (depth - 1) + [None]]


# The paper's table 1: widths of S and L; blocks of L in each of the three stages, where S has one;
# heads; MLP ratio; the patch embedding; and the input's size, which sets the position embeddings.
_KEYS = ('embed_dims', 'depth', 'num_heads', 'mlp_ratio', 'patch_embed', 'img_size')
_VARIANTS = {
    'tiny': ((96, 192), 4, 3, 4, 'linear', 240),
    'small': ((192, 384), 4, 6, 4, 'linear', 240),
    'base': ((384, 768), 4, 12, 4, 'linear', 240),
    '9': ((128, 256), 3, 4, 3, 'linear', 240),
    '15': ((192, 384), 5, 6, 3, 'linear', 240),
    '18': ((224, 448), 6, 7, 3, 'linear', 240),
    '9_dagger': ((128, 256), 3, 4, 3, 'conv', 240),
    '15_dagger': ((192, 384), 5, 6, 3, 'conv', 240),
    '18_dagger': ((224, 448), 6, 7, 3, 'conv', 240),
    '15_dagger_408': ((192, 384), 5, 6, 3, 'conv', 408),
    '18_dagger_408': ((224, 448), 6, 7, 3, 'conv', 408),
}


class CrossViT(Backbone):
    """Cross-attention multi-scale vision transformer.

    The maps are the two branches' last ones, behind the branch's norm: index 0 is S, index 1 is L.
    Their cells are no whole number of pixels in general; :meth:`map_size` says how many there are.
    Blocks that have no part in what is returned are not built: without class tokens that is the
    last exchange, which none but class tokens pass through.

    Args:
        arch: A name of the table, or a dict with its keys: ``embed_dims`` (widths of S and L),
            ``depth`` (blocks of L in each stage), ``num_heads``, ``mlp_ratio``, ``patch_embed``
            (``'linear'`` or ``'conv'``) and ``img_size`` (of the position embeddings; others are
            interpolated).
        mode: ``'parity'`` shows S the image in its own size and L in 224/240 of it, as published:
            strides 12 and 120/7. ``'dense'`` shows L the image in its own size and S in 240/224 of
            it: strides 11.2 and 16, for detection. Weights fit both.
        out_type: ``'featmap'`` returns maps ``(B, C, H, W)``; ``'cls_token'`` a tuple of one, the
            list of the branches' normed class tokens, each ``(B, C)``, as classification needs.
        out_indices: Branches to return.
        patch_sizes: Of S and L, in pixels; small images want small ones, near 3 : 4. The ``'conv'``
            patch embedding has 12 and 16 alone.
        attention: The attention of both branches' blocks: ``dict(type='SoftmaxAttention')`` or
            another mechanism with its options. The exchange is the paper's cross-attention.
        drop_path_rate: Stochastic depth of the last block of L; rises linearly from 0.
        window_size: Side of the windows, in tokens, that self-attention stays within, but for the
            last block of L in each stage and the last of S; None is no windows. For large images;
            weights are the same either way. The exchange between the branches stays whole.
        frozen_stages: Freeze the embeddings and this many of the three multi-scale stages.
        norm_eval, with_cp: See :class:`Backbone`.

    Raises:
        ValueError: An argument that is out of range; at call time, images that are too small.
    """

    num_maps = len(BRANCHES)
    num_stages = NUM_STAGES
    arch_settings = {
        name: dict(zip(_KEYS, variant, strict=True)) for name, variant in _VARIANTS.items()
    }

    def __init__(
        self,
        arch: str | Mapping = 'small',
        mode: str = 'parity',
        out_type: str = 'featmap',
        out_indices: int | Sequence[int] = BRANCHES,
        patch_sizes: Sequence[int] = PATCH_SIZES,
        drop_path_rate: float = 0.1,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        window_size: int | None = None,
        attention: Mapping | None = None,
    ) -> None:
        super().__init__(arch, out_indices, frozen_stages, norm_eval, with_cp)
        settings = self.settings(arch)
        check_choice('mode', mode, MODES)
        check_choice('out_type', out_type, OUT_TYPES)
        check_choice("arch['patch_embed']", settings['patch_embed'], PATCH_EMBEDDINGS)
        _check_patch_sizes(patch_sizes, settings['patch_embed'])
        self.mode, self.out_type, self.patch_sizes = mode, out_type, tuple(patch_sizes)
        self.min_size = 2 * max(patch_sizes)
        self.window_size = window_size

        dims, depth = settings['embed_dims'], settings['depth']
        image = (settings['img_size'], settings['img_size'])
        self.stem = nn.ModuleList(
            BranchEmbedding(
                dims[b],
                patch_sizes[b],
                settings['patch_embed'],
                branch_grid(image, patch_sizes[b], MODES['parity'][b]),
            )
            for b in BRANCHES
        )
        rates = drop_path_rates(drop_path_rate, NUM_STAGES * depth)
        self.stages = nn.ModuleList(
            MultiScaleStage(
                dims,
                [(1, depth)[b] * (b in blocks) for b in BRANCHES],
                fused,
                settings['num_heads'],
                settings['mlp_ratio'],
                attention,
                rates[i * depth : (i + 1) * depth],
                stage_windows(window_size, i, depth),
            )
            for i, (blocks, fused) in enumerate(
                used_branches(self.out_indices, out_type == 'cls_token')
            )
        )
        self.norms = nn.ModuleDict({str(b): LayerNorm(dims[b]) for b in self.out_indices})
        init_linear_layers(self)
        strides = (
            of * patch / px for (px, of), patch in zip(MODES[mode], patch_sizes, strict=True)
        )
        self.finish(dims, strides)
        self.token_widths = self.out_channels

    def map_size(self, size: Sequence[int], index: int) -> Size:
        """(H, W) of the map of branch ``index`` for images of ``size`` = (H, W) pixels."""
        return branch_grid((size[0], size[1]), self.patch_sizes[index], MODES[self.mode][index])

    @property
    def graph_side(self) -> int | None:
        """See :attr:`Backbone.graph_side`. Windows, cut to smaller maps, hold to a size."""
        return super().graph_side if self.window_size is None else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | tuple[list[Tensor]]:
        """Images ``(B, 3, H, W)`` to what ``out_type`` and ``out_indices`` say."""
        self.check_input(x)
        size = [int(side) if isinstance(side, Tensor) else side for side in x.shape[-2:]]
        tokens = [embed(x, self.map_size(size, b)) for b, embed in enumerate(self.stem)]
        dense = self.out_type == 'featmap'
        for stage in self.stages:
            tokens = stage(tokens, self.run_block, dense)
        if dense:
            return tuple(tokens[b].as_map(self.norms[str(b)]) for b in self.out_indices)
        return ([self.norms[str(b)](tokens[b].x[:, 0]) for b in self.out_indices],)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the recipe does not decay, besides biases and norms."""
        return {f'stem.{b}.{name}' for b in BRANCHES for name in ('cls_token', 'pos_embed')}

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """As every backbone; S's block counts as the stage's first layer, fusions as its last."""
        pattern = re.escape(prefix) + r'stages\.(\d+)\.(?:blocks\.\d+\.(\d+)|fusions)\..*'
        if match := re.fullmatch(pattern, param_name):
            stage, block = int(match[1]), match[2]
            layer = len(self.stages[stage]) - 1 if block is None else block
            param_name = f'{prefix}stages.{stage}.{layer}'
        return super().get_layer_depth(param_name, prefix)


def _check_patch_sizes(patch_sizes: Sequence[int], patch_embed: str) -> None:
    if len(patch_sizes) != 2 or not all(type(n) is int and n > 0 for n in patch_sizes):
        raise ValueError(f'patch_sizes={patch_sizes!r}: two positive ints, of S and L, are needed')
    if patch_embed == 'conv' and tuple(patch_sizes) != PATCH_SIZES:
        raise ValueError(
            f"patch_sizes={patch_sizes!r}: patch_embed='conv' has patches of {PATCH_SIZES} alone"
        )
