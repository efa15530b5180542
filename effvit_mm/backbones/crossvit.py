"""CrossViT: two branches of different patch size that exchange their class tokens.

Chen, Fan, Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image
Classification", ICCV 2021, arXiv 2103.14899. Branch 0 is the paper's small branch S (patches of 12
pixels, narrow, shallow), branch 1 its large branch L (patches of 16 pixels).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import CrossAttention
from ..attention.mechanism import Size, check_choice
from ..attention.sizes import surely_equal
from .base import Backbone, drop_path_rates, init_linear_layers
from .stochastic_depth import StochasticDepth
from .transformer import OUT_TYPES, Block, LayerNorm, PositionEmbedding, Tokens, run_block

BRANCHES = (0, 1)
PATCH_SIZES = (12, 16)
NUM_STAGES = 3  # multi-scale blocks

# What each branch sees: its image's side, as a fraction of the input's. The weights were trained
# with S on 240 and L on 224 pixels; dense tasks want L's cells to be 16 pixels of the input.
MODES: dict[str, tuple[Size, Size]] = {
    'parity': ((1, 1), (224, 240)),
    'dense': ((240, 224), (1, 1)),
}


# Kernel, stride and padding of the three convolutions, for each patch size.
_CONV_PATCHES = {
    12: ((7, 4, 3), (3, 3, 0), (3, 1, 1)),
    16: ((7, 4, 3), (3, 2, 1), (3, 2, 1)),
}


def conv_patches(dim: int, patch_size: int) -> nn.Module:
    """Patches of p x p pixels to tokens by three convolutions, the paper's dagger."""
    widths = (3, dim // 4, dim // 2, dim)
    layers: list[nn.Module] = []
    for i, geometry in enumerate(_CONV_PATCHES[patch_size]):
        layers += [nn.Conv2d(widths[i], widths[i + 1], *geometry), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


PATCH_EMBEDDINGS = {
    'linear': lambda dim, patch_size: nn.Conv2d(3, dim, patch_size, patch_size),
    'conv': conv_patches,
}


def branch_grid(size: Size, patch_size: int, fraction: Size) -> Size:
    """Tokens along height and width, of an image of ``size`` pixels scaled by ``fraction``."""
    pixels, of = fraction
    height, width = (_rounded(side * pixels, of * patch_size) for side in size)
    return height, width


def _rounded(numerator: int, denominator: int) -> int:
    """``round`` of a quotient in whole numbers: sizes may be symbols, which have no ``round``."""
    floor = numerator // denominator
    rest, odd = numerator - floor * denominator, floor - floor // 2 * 2  # converters know no %
    # One more from a half on; at the very half, only to get an even number.
    return floor + (2 * rest + odd + denominator - 1) // (2 * denominator)


class BranchEmbedding(PositionEmbedding):
    """Image to the tokens of one branch: class token first, positions added.

    Args:
        dim: Width.
        patch_size: Side of a patch, in pixels.
        patch_embed: ``'linear'`` or ``'conv'``.
        grid: (H, W) of the position embeddings.

    Shapes:
        x: ``(B, 3, H, W)``, of any size, and the grid (h, w) to cut it into: the image is resized
        to whole patches. Returns :class:`Tokens` ``(B, 1 + h * w, dim)``.
    """

    def __init__(self, dim: int, patch_size: int, patch_embed: str, grid: Size) -> None:
        super().__init__(dim, grid, ('cls_token',))
        self.patch_size = patch_size
        self.proj = PATCH_EMBEDDINGS[patch_embed](dim, patch_size)

    def forward(self, x: Tensor, grid: Size) -> Tokens:
        size = (grid[0] * self.patch_size, grid[1] * self.patch_size)
        if not surely_equal((x.shape[2], x.shape[3]), size):
            x = F.interpolate(x, size=size, mode='bicubic', align_corners=False)
        return Tokens(self.add_positions(self.proj(x)), grid, self.num_extra_tokens)


def token_projection(dim: int, out_dim: int) -> nn.Sequential:
    """Take a class token to the other branch's width, f or g of the paper's equation 5."""
    return nn.Sequential(LayerNorm(dim), nn.GELU(), nn.Linear(dim, out_dim))


class Fusion(nn.Module):
    """A branch's class token collects from the other branch's patches (equations 3 to 5, figure 4).

    It goes over to the other branch's width, attends there, and comes back. There is a residual
    around the attention, none around the whole.

    Shapes:
        cls: ``(B, 1, dim)``, the branch's own class token; other: ``(B, 1 + M, other_dim)``; valid:
        ``(B, 1 + M)``, False where a row of ``other`` is padding, or None. Returns ``(B, 1, dim)``.
    """

    def __init__(self, dim: int, other_dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.project = token_projection(dim, other_dim)
        self.norm = LayerNorm(other_dim)
        self.attn = CrossAttention(other_dim, num_heads)
        self.revert = token_projection(other_dim, dim)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, cls: Tensor, other: Tensor, valid: Tensor | None = None) -> Tensor:
        cls = self.project(cls)
        tokens = self.norm(torch.cat((cls, other[:, 1:]), 1))
        return self.revert(cls + self.drop_path(self.attn(tokens, valid)))


class MultiScaleStage(nn.Module):
    """One multi-scale block: transformer blocks in each branch, then the exchange (figure 2).

    Args:
        dims: Widths of the branches.
        depths: Transformer blocks of the branches; 0 where a branch ends before this stage.
        fused: Branches whose class token is renewed at the end.
        num_heads, mlp_ratio, attention: Of both branches' blocks.
        drop_rates: Stochastic depth of the blocks: S takes the first, the exchange the last.
        windows: For each branch the ``window_size`` of its blocks.
    """

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        fused: Sequence[int],
        num_heads: int,
        mlp_ratio: float,
        attention: Mapping | None,
        drop_rates: Sequence[float],
        windows: Sequence[Sequence[int | None]],
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    Block(dims[b], num_heads, mlp_ratio, drop_rates[i], attention, windows[b][i])
                    for i in range(depths[b])
                )
            )
            for b in BRANCHES
        )
        self.fusions = nn.ModuleDict(
            {str(b): Fusion(dims[b], dims[1 - b], num_heads, drop_rates[-1]) for b in fused}
        )

    def __len__(self) -> int:
        """Layers one after another: the blocks of the deeper branch, and the exchange."""
        blocks: Any = self.blocks  # modules without a length are none of them
        return max(map(len, blocks)) + bool(self.fusions)

    def forward(self, tokens: Sequence[Tokens], run: Callable, keep_dropped: bool) -> list[Tokens]:
        """Tokens of the branches to the same behind the stage; ``run(block, *args)`` runs a block.

        ``keep_dropped``: keep the last features of tokens that a mechanism drops.
        """
        tokens = list(tokens)
        for b in BRANCHES:
            blocks: Any = self.blocks[b]
            for block in blocks:
                tokens[b] = run_block(block, tokens[b], run, keep_dropped)
        fused = list(tokens)  # both directions read the tokens from before the exchange
        for name, fusion in self.fusions.items():
            own, other = tokens[int(name)], tokens[1 - int(name)]
            cls = run(fusion, own.x[:, :1], other.x, other.valid())
            fused[int(name)] = own._replace(x=torch.cat((cls, own.x[:, 1:]), 1))
        return fused


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
        self.mode = check_choice('mode', mode, MODES)
        self.out_type = check_choice('out_type', out_type, OUT_TYPES)
        check_choice("arch['patch_embed']", settings['patch_embed'], PATCH_EMBEDDINGS)
        if len(patch_sizes) != 2 or not all(type(n) is int and n > 0 for n in patch_sizes):
            raise ValueError(f'patch_sizes={patch_sizes!r}: two positive ints, of S and L')
        if settings['patch_embed'] == 'conv' and tuple(patch_sizes) != PATCH_SIZES:
            raise ValueError(f"patch_sizes={patch_sizes!r}: patch_embed='conv' has {PATCH_SIZES}")
        self.patch_sizes, self.window_size = tuple(patch_sizes), window_size
        self.min_size = 2 * max(patch_sizes)

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
        strides = [
            of * patch / px for (px, of), patch in zip(MODES[mode], patch_sizes, strict=True)
        ]
        self.finish(dims, strides)
        self.token_widths = self.out_channels

    def map_size(self, size: Sequence[int], index: int) -> Size:
        """(H, W) of the map of branch ``index`` for images of ``size`` = (H, W) pixels."""
        return branch_grid((size[0], size[1]), self.patch_sizes[index], MODES[self.mode][index])

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | tuple[list[Tensor]]:
        """Images ``(B, 3, H, W)`` to what ``out_type`` and ``out_indices`` say."""
        self.check_input(x)
        size = [int(side) if isinstance(side, Tensor) else side for side in x.shape[-2:]]
        stem: Any = self.stem
        tokens = [embed(x, self.map_size(size, b)) for b, embed in enumerate(stem)]
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
