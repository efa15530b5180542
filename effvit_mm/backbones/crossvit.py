"""CrossViT: two branches of different patch size that exchange their class tokens.

Chen, Fan, Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image
Classification", ICCV 2021, arXiv 2103.14899. Branch 0 is the paper's small branch S (patches of 12
pixels, narrow, shallow), branch 1 its large branch L (patches of 16 pixels).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ..attention import CrossAttention, tokens_to_windows, windows_to_tokens
from ..attention.caching import SizeCache
from ..attention.sizes import surely_equal
from ..registry import register_backbone
from .base import Backbone, drop_path_rates, init_linear_layers

Size = tuple[int, int]
BRANCHES = (0, 1)
PATCH_SIZES = (12, 16)
NUM_STAGES = 3  # multi-scale blocks

# What each branch sees: its image's side, as a fraction of the input's. The weights were trained
# with S on 240 and L on 224 pixels; dense tasks want L's cells to be 16 pixels of the input.
MODES: dict[str, tuple[Size, Size]] = {
    'parity': ((1, 1), (224, 240)),
    'dense': ((240, 224), (1, 1)),
}

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


def linear_patches(dim: int, patch_size: int) -> nn.Module:
    """Patches to tokens by one linear map: ``(B, 3, p H, p W) -> (B, dim, H, W)``."""
    return nn.Conv2d(3, dim, patch_size, patch_size)


# Kernel, stride and padding of the three convolutions, for each patch size.
_CONV_PATCHES = {
    12: ((7, 4, 3), (3, 3, 0), (3, 1, 1)),
    16: ((7, 4, 3), (3, 2, 1), (3, 2, 1)),
}


def conv_patches(dim: int, patch_size: int) -> nn.Module:
    """Patches to tokens by three convolutions, the paper's dagger; same shapes."""
    widths = (3, dim // 4, dim // 2, dim)
    layers: list[nn.Module] = []
    for i, geometry in enumerate(_CONV_PATCHES[patch_size]):
        layers += [nn.Conv2d(widths[i], widths[i + 1], *geometry), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


PATCH_EMBEDDINGS = {'linear': linear_patches, 'conv': conv_patches}


def branch_grid(size: Size, patch_size: int, fraction: Size) -> Size:
    """Tokens along height and width, of an image of ``size`` pixels scaled by ``fraction``."""
    pixels, of = fraction
    height, width = (_rounded(side * pixels, of * patch_size) for side in size)
    return height, width


def _rounded(numerator: int, denominator: int) -> int:
    """``round`` of a quotient in whole numbers: sizes may be symbols, which have no ``round``."""
    floor, rest = numerator // denominator, numerator % denominator
    # One more from a half on; at the very half, only to get an even number.
    return floor + (2 * rest + floor % 2 + denominator - 1) // (2 * denominator)


def resize_positions(positions: Tensor, grid: Size, new_grid: Size) -> Tensor:
    """Position embeddings of another grid, by bicubic interpolation.

    Args:
        positions: ``(1, 1 + H * W, C)``, the class token's first: that one stays as it is.
        grid: (H, W) of ``positions``.
        new_grid: (H, W) that is wanted.
    """
    if surely_equal(grid, new_grid):
        return positions
    extra, table = positions[:, :1], positions[:, 1:]
    table = table.transpose(1, 2).unflatten(2, grid)  # 1 C H W
    new = F.interpolate(table.float(), size=new_grid, mode='bicubic', align_corners=False)
    return torch.cat((extra, new.to(table.dtype).flatten(2).transpose(1, 2)), 1)


class BranchEmbedding(nn.Module):
    """Image to the tokens of one branch: class token first, positions added.

    Shapes:
        x: ``(B, 3, H, W)``, of any size, and the grid to cut it into; returns ``(B, 1 + h * w,
        dim)`` for the grid (h, w). The image is resized to whole patches, the position embeddings
        to the grid.
    """

    def __init__(self, dim: int, patch_size: int, patch_embed: str, grid: Size) -> None:
        super().__init__()
        self.patch_size, self.grid = patch_size, grid
        self.proj = PATCH_EMBEDDINGS[patch_embed](dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1], dim))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.kept = SizeCache()

    def switch_to_deploy(self) -> BranchEmbedding:
        """From now on keep the position embeddings of each grid."""
        self.kept.active = True
        return self

    def forward(self, x: Tensor, grid: Size) -> Tensor:
        size = (grid[0] * self.patch_size, grid[1] * self.patch_size)
        if not surely_equal(x.shape[-2:], size):
            x = F.interpolate(x, size=size, mode='bicubic', align_corners=False)
        tokens = self.proj(x).flatten(2).transpose(1, 2)  # B N C
        tokens = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), tokens), 1)
        return tokens + self.positions(grid)

    def positions(self, grid: Size) -> Tensor:
        """Position embeddings of a grid, the class token's first."""
        resize = partial(resize_positions, self.pos_embed, self.grid, grid)
        return self.kept.get(grid, self.pos_embed, resize)

    def fit_positions(self, state: dict[str, Tensor], prefix: str) -> None:
        """Resize the position embeddings in ``state``, of another square grid, to ours."""
        name = f'{prefix}pos_embed'
        given, own = state.get(name), self.pos_embed
        if given is None or given.ndim != 3 or given.shape[1] == own.shape[1]:
            return
        side = isqrt(given.shape[1] - 1)
        if side > 0 and side**2 == given.shape[1] - 1:
            state[name] = resize_positions(given, (side, side), self.grid)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        self.fit_positions(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


class SelfAttention(nn.Module):
    """Softmax attention among all tokens of a branch, or within windows of its map.

    Args:
        dim: Width of the tokens.
        num_heads: Heads; must divide ``dim``.
        window_size: Side of a window, in tokens; None is no windows. See
            :func:`tokens_to_windows`: the class token is copied into each, the mean comes out.

    Shapes:
        x: ``(B, 1 + H * W, dim)``; grid: (H, W), needed with windows alone. Returns the same shape.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int | None = None) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'num_heads={num_heads} does not divide the branch width {dim}')
        self.num_heads, self.window_size = num_heads, window_size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: Size | None = None) -> Tensor:
        if self.window_size is None:
            return self.attend(x)
        windows = self.attend(tokens_to_windows(x, grid, 1, self.window_size))
        return windows_to_tokens(windows, grid, 1, self.window_size)

    def attend(self, x: Tensor) -> Tensor:
        """Attention among all tokens of a row: ``(B, N, C) -> (B, N, C)``."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # B N 3 heads d
        out = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).unbind(0))
        return self.proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with a GELU between: ``(B, N, C) -> (B, N, C)``."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """The pre-norm block of ViT: ``(B, N, C) -> (B, N, C)``; windows need the grid (H, W) too."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path: float,
        window_size: int | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = SelfAttention(dim, num_heads, window_size)
        self.norm2 = LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path, 'row')

    def forward(self, x: Tensor, grid: Size | None = None) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def token_projection(dim: int, out_dim: int) -> nn.Sequential:
    """Take a class token to the other branch's width, f or g of the paper's equation 5."""
    return nn.Sequential(LayerNorm(dim), nn.GELU(), nn.Linear(dim, out_dim))


class Fusion(nn.Module):
    """A branch's class token collects from the other branch's patches (equations 3 to 5, figure 4).

    It goes over to the other branch's width, attends there, and comes back. There is a residual
    around the attention, none around the whole.

    Shapes:
        own: ``(B, 1 + N, dim)``, other: ``(B, 1 + M, other_dim)``; returns ``(B, 1, dim)``.
    """

    def __init__(self, dim: int, other_dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.project = token_projection(dim, other_dim)
        self.norm = LayerNorm(other_dim)
        self.attn = CrossAttention(other_dim, num_heads)
        self.revert = token_projection(other_dim, dim)
        self.drop_path = StochasticDepth(drop_path, 'row')

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        cls = self.project(own[:, :1])
        tokens = torch.cat((cls, other[:, 1:]), 1)
        return self.revert(cls + self.drop_path(self.attn(self.norm(tokens))))


class MultiScaleStage(nn.Module):
    """One multi-scale block: transformer blocks in each branch, then the exchange (figure 2).

    Args:
        dims: Widths of the branches.
        depths: Transformer blocks of the branches; 0 where a branch ends before this stage.
        fused: Branches whose class token is renewed at the end.
        num_heads, mlp_ratio: Of both branches.
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
        drop_rates: Sequence[float],
        windows: Sequence[Sequence[int | None]],
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    TransformerBlock(dims[b], num_heads, mlp_ratio, drop_rates[i], windows[b][i])
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
        return max(map(len, self.blocks)) + bool(self.fusions)

    def forward(
        self, tokens: Sequence[Tensor], grids: Sequence[Size], run: Callable[..., Tensor]
    ) -> list[Tensor]:
        """Tokens of the branches ``(B, 1 + H * W, C)``, and their grids (H, W), to the same tokens.

        ``run(block, *args)`` runs a block.
        """
        tokens = list(tokens)
        for b in BRANCHES:
            for block in self.blocks[b]:
                tokens[b] = run(block, tokens[b], grids[b])
        fused = list(tokens)  # both directions read the tokens from before the exchange
        for name, fusion in self.fusions.items():
            b = int(name)
            cls = run(fusion, tokens[b], tokens[1 - b])
            fused[b] = torch.cat((cls, tokens[b][:, 1:]), 1)
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


@register_backbone
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
        drop_path_rate: Stochastic depth of the last block of L; rises linearly from 0.
        window_size: Side of the windows, in tokens, that self-attention stays within, but for the
            last block of L in each stage and the last of S; None is no windows. For large images;
            weights are the same either way. The exchange between the branches stays whole.
        frozen_stages: Freeze the embeddings and this many of the three multi-scale stages.
        norm_eval, with_cp, init_cfg: See :class:`Backbone`.

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
        init_cfg: dict | list | None = None,
        window_size: int | None = None,
    ) -> None:
        super().__init__(arch, out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        settings = self.settings(arch)
        _check_choice('mode', mode, MODES)
        _check_choice('out_type', out_type, ('featmap', 'cls_token'))
        _check_choice("arch['patch_embed']", settings['patch_embed'], PATCH_EMBEDDINGS)
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
        size = x.shape[-2:]
        if torch.jit.is_tracing():  # where sizes are tensors
            size = [int(side) for side in size]
        grids = [self.map_size(size, b) for b in BRANCHES]
        tokens = [embed(x, grid) for embed, grid in zip(self.stem, grids, strict=True)]
        for stage in self.stages:
            tokens = stage(tokens, grids, self.run_block)
        if self.out_type == 'cls_token':
            return ([self.norms[str(b)](tokens[b][:, 0]) for b in self.out_indices],)
        maps = []
        for b in self.out_indices:
            out = self.norms[str(b)](tokens[b][:, 1:])
            maps.append(out.transpose(1, 2).unflatten(2, grids[b]))  # B C H W
        return tuple(maps)

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

    def prepare_state_dict(self, state: dict[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
        """``state`` with the position embeddings in our size; the rest as it is."""
        state = dict(state)
        for b, embed in enumerate(self.stem):
            embed.fit_positions(state, f'{prefix}stem.{b}.')
        return state


def _check_choice(name: str, value: str, allowed: Sequence[str] | Mapping) -> None:
    if value not in allowed:
        raise ValueError(f'{name}={value!r}: allowed are {", ".join(map(repr, allowed))}')


def _check_patch_sizes(patch_sizes: Sequence[int], patch_embed: str) -> None:
    if len(patch_sizes) != 2 or not all(type(n) is int and n > 0 for n in patch_sizes):
        raise ValueError(f'patch_sizes={patch_sizes!r}: two positive ints, of S and L, are needed')
    if patch_embed == 'conv' and tuple(patch_sizes) != PATCH_SIZES:
        raise ValueError(
            f"patch_sizes={patch_sizes!r}: patch_embed='conv' has patches of {PATCH_SIZES} alone"
        )
