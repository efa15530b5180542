"""The plain vision transformer as DeiT has it, with a choice of attention and token sampling.

Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021; Touvron et al., "Training
data-efficient image transformers and distillation through attention", ICML 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ..attention import (
    Layout,
    Sampled,
    TokenState,
    full_state,
    rows,
    tokens_to_windows,
    window_of,
    windows_to_tokens,
)
from ..attention.caching import SizeCache
from ..attention.sizes import surely_equal, surely_zero
from ..attention.softmax import NO_GRID
from ..deploy import PackingModule, linear_add, packed_linear, packed_patches
from ..openmm.registry import register_backbone
from .base import Backbone, drop_path_rates, init_linear_layers
from .mechanism import build_attention
from .mlp import MLP

LayerNorm = partial(nn.LayerNorm, eps=1e-6)
OUT_TYPES = ('featmap', 'cls_token')
Size = tuple[int, int]


class Attention(PackingModule):
    """Queries, keys and values of tokens, a mechanism, and the output projection.

    Shapes:
        x: ``(B, N, dim)``; returns the same, or a :class:`Sampled` of projected rows ``(B, extra +
        K, dim)`` where the mechanism drops tokens. Where the layout has ``NO_GRID`` of queries, the
        extra tokens alone. A ``residual`` like x is added to the rows that come out.
    """

    def __init__(self, dim: int, num_heads: int, attention: Mapping | None) -> None:
        super().__init__(count=2)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.mechanism = build_attention(attention, num_heads, dim // num_heads, dim // num_heads)
        self.proj = nn.Linear(dim, dim)

    @property
    def samples_tokens(self) -> bool:
        return getattr(self.mechanism, 'samples_tokens', False)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        tokens: TokenState | None = None,
        residual: Tensor | None = None,
    ) -> Tensor | Sampled:
        # B N 3C -> 3, B heads N C/heads
        qkv = packed_linear(self.qkv, x, self.packed[0])
        q, k, v = qkv.view(*x.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        if layout.query_grid == NO_GRID:
            q = q[:, :, : layout.num_extra_tokens]
        state = {'tokens': tokens} if self.samples_tokens else {}
        out = self.mechanism(q, k, v, layout, **state)
        if isinstance(out, Sampled):
            residual = None if residual is None else rows(residual, out.index)
            return out._replace(values=self._join(out.values, residual))
        return self._join(out, None if residual is None else residual[:, : out.shape[2]])

    def _join(self, x: Tensor, residual: Tensor | None) -> Tensor:
        x = x.transpose(1, 2).flatten(2)
        if residual is None:
            return packed_linear(self.proj, x, self.packed[1])
        return linear_add(self.proj, x, residual, self.packed[1])


class WindowAttention(Attention):
    """The same within windows of the map, which see nothing of each other but the extra tokens.

    See :func:`tokens_to_windows`: extra tokens are copied into each window, their mean comes out.

    Raises:
        ValueError: The mechanism drops tokens: windows would be left with gaps.
    """

    def __init__(
        self, dim: int, num_heads: int, attention: Mapping | None, window_size: int
    ) -> None:
        super().__init__(dim, num_heads, attention)
        self.window_size = window_size
        if self.samples_tokens:
            raise ValueError(
                f'window_size={window_size}: {type(self.mechanism).__name__} samples tokens of the '
                'whole map and cannot attend within windows; leave window_size None'
            )

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        tokens: TokenState | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        grid, extra = layout.query_grid, layout.num_extra_tokens
        window = window_of(grid, self.window_size)
        windows = tokens_to_windows(x, grid, extra, self.window_size)
        windows = super().forward(windows, Layout(window, window, extra), None)
        out = windows_to_tokens(windows, grid, extra, self.window_size)
        return out if residual is None else residual + out


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a norm; pre-norm residuals.

    ``window_size`` None is attention to the whole map.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path: float,
        attention: Mapping | None,
        window_size: int | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        if window_size is None:
            self.attn = Attention(dim, num_heads, attention)
        else:
            self.attn = WindowAttention(dim, num_heads, attention, window_size)
        self.norm2 = LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path, 'row')

    def forward(
        self, x: Tensor, layout: Layout, tokens: TokenState | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Tokens ``(B, N, C)``; returns them, and where some were dropped, the rows kept of ``x``
        ``(B, extra + K)`` and which of those are no padding ``(B, K)``."""
        deployed = isinstance(self.drop_path, nn.Identity)
        out = self.attn(self.norm1(x), layout, tokens, x if deployed else None)
        index = valid = None
        if isinstance(out, Sampled):
            out, index, valid = out
        if deployed:
            return self.mlp(self.norm2(out), out), index, valid
        x = (x if index is None else rows(x, index)) + self.drop_path(out)
        return x + self.drop_path(self.mlp(self.norm2(x))), index, valid


class PatchEmbedding(PackingModule):
    """Image to tokens: extra tokens first, positions added, for any image size.

    Args:
        dim: Width.
        patch_size: Side of a patch, in pixels.
        grid: Side of the position embeddings' square grid.
        distilled: Have a distillation token behind the class token.

    Shapes:
        x: ``(B, 3, H, W)``, zero-padded at the right and bottom to whole patches; returns ``(B,
        extra + h * w, dim)`` and the grid (h, w).
    """

    def __init__(self, dim: int, patch_size: int, grid: int, distilled: bool) -> None:
        super().__init__(count=1)
        self.patch_size, self.grid = patch_size, grid
        self.num_extra_tokens = 1 + distilled
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.num_extra_tokens + grid**2, dim))
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)
        self.kept = SizeCache()

    def switch_to_deploy(self) -> PatchEmbedding:
        """From now on keep the position embeddings of each grid, and weights in MKL's order."""
        self.kept.active = True
        super().switch_to_deploy()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Size]:
        height, width = x.shape[-2:]
        bottom, right = -height % self.patch_size, -width % self.patch_size
        if not surely_zero(bottom, right):
            x = F.pad(x, (0, right, 0, bottom))
        x = packed_patches(self.proj, x, self.packed[0])
        grid = (x.shape[2], x.shape[3])
        tokens = x.flatten(2).transpose(1, 2)  # B N C
        extra = [self.cls_token, *([self.dist_token] if self.num_extra_tokens == 2 else [])]
        tokens = torch.cat([*(token.expand(x.shape[0], -1, -1) for token in extra), tokens], 1)
        return tokens + self.positions(grid), grid

    def positions(self, grid: Size) -> Tensor:
        """Position embeddings for a grid; the extra tokens' own are not interpolated."""
        resize = partial(resize_positions, self.pos_embed, self.num_extra_tokens, grid)
        return self.kept.get(grid, self.pos_embed, resize)

    def prepare_state_dict(self, state: dict[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
        """Resize the position embeddings of another square image size to ours."""
        name = f'{prefix}pos_embed'
        given = state.get(name)
        if given is None or given.ndim != 3 or given.shape == self.pos_embed.shape:
            return state
        side = isqrt(given.shape[1] - self.num_extra_tokens)
        if side**2 != given.shape[1] - self.num_extra_tokens:
            return state
        resized = resize_positions(given, self.num_extra_tokens, (self.grid, self.grid))
        return {**state, name: resized}


def resize_positions(positions: Tensor, extra: int, grid: Size) -> Tensor:
    """Bicubic interpolation of ``(1, extra + side ** 2, C)`` to a grid, extra tokens kept apart."""
    side = isqrt(positions.shape[1] - extra)
    if surely_equal((side, side), grid):
        return positions
    table = positions[:, extra:].transpose(1, 2).unflatten(2, (side, side))
    table = F.interpolate(table.float(), size=grid, mode='bicubic', antialias=False)
    table = table.to(positions.dtype).flatten(2).transpose(1, 2)
    return torch.cat([positions[:, :extra], table], 1)


@register_backbone
class VisionTransformer(Backbone):
    """DeiT's transformer: one resolution, stride 16, four stages of equal depth.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, or a dict with ``embed_dims``, ``depths`` (blocks
            of the four stages), ``num_heads`` and ``mlp_ratio``.
        attention: ``dict(type='SoftmaxAttention')`` or another mechanism with its options.
        sampled_blocks: Blocks (from 0) in which a mechanism that samples tokens does so; None is
            what the mechanism's own options say, in all blocks.
        window_size: Side of the windows, in tokens, that blocks attend within, as in ViTDet; None
            is attention to the whole map in all blocks. Weights are the same either way. Not for
            mechanisms that sample tokens.
        global_blocks: With windows, the blocks (from 0) that attend to the whole map all the same;
            None is the last of each stage: ``(2, 5, 8, 11)`` of the named variants.
        distilled: Have a distillation token besides the class token.
        out_type: ``'featmap'`` returns maps ``(B, C, H/16, W/16)``, sizes rounded up; pruned cells
            hold their token's last feature. ``'cls_token'`` returns a tuple of one, the list of the
            class token (and the distillation token), each ``(B, C)``.
        out_indices: Stages whose maps are returned, of 0..3.
        final_norm: Norm the last stage's output.
        img_size: Side of the image that the position embeddings are for; others are interpolated.
        patch_size: Side of a patch in pixels, which is the stride; small images want small ones.
        drop_path_rate: Stochastic depth of the last block; rises linearly from 0.
        frozen_stages, norm_eval, with_cp, init_cfg: See :class:`Backbone`.

    After a forward pass with a sampling mechanism, ``kept_tokens`` lists for each sampling block
    how many patch tokens each image had left: ``(B,)`` counts. Graphs that are compiled or exported
    do not count.
    """

    arch_settings = {
        name: {'embed_dims': dim, 'depths': (3, 3, 3, 3), 'num_heads': heads, 'mlp_ratio': 4}
        for name, dim, heads in (('tiny', 192, 3), ('small', 384, 6), ('base', 768, 12))
    }

    def __init__(
        self,
        arch: str | Mapping = 'small',
        attention: Mapping | None = None,
        sampled_blocks: Sequence[int] | None = None,
        distilled: bool = False,
        out_type: str = 'featmap',
        out_indices: int | Sequence[int] = -1,
        final_norm: bool = True,
        img_size: int = 224,
        patch_size: int = 16,
        drop_path_rate: float = 0.1,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
        window_size: int | None = None,
        global_blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__(arch, out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        settings = self.settings(arch)
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type={out_type!r}: allowed are {", ".join(OUT_TYPES)}')
        dim, depths = settings['embed_dims'], settings['depths']
        if dim % settings['num_heads']:
            raise ValueError(f'num_heads={settings["num_heads"]} does not divide embed_dims={dim}')
        self.out_type = out_type
        if type(patch_size) is not int or not 1 <= patch_size <= img_size:
            raise ValueError(f'patch_size={patch_size!r}: an int from 1 to img_size is needed')
        blocks = range(sum(depths))
        if sampled_blocks is not None and not all(i in blocks for i in sampled_blocks):
            raise ValueError(f'sampled_blocks={sampled_blocks!r}: blocks are 0 to {blocks[-1]}')
        self.min_size = 2 * patch_size
        self.window_size = window_size
        self.stem = PatchEmbedding(dim, patch_size, img_size // patch_size, distilled)
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        numbers = iter(range(sum(depths)))
        windows = iter(block_windows(window_size, global_blocks, depths))
        self.stages = nn.ModuleList(
            nn.ModuleList(
                Block(
                    dim,
                    settings['num_heads'],
                    settings['mlp_ratio'],
                    next(rates),
                    _with_sampling(attention, next(numbers), sampled_blocks),
                    next(windows),
                )
                for _ in range(depth)
            )
            for depth in depths[: self.out_indices[-1] + 1]
        )
        if final_norm and len(self.stages) == self.num_maps:
            self.norm = LayerNorm(dim)
        self.token_widths = (dim,) * self.stem.num_extra_tokens
        self.kept_tokens: list[Tensor] = []
        init_linear_layers(self)
        self.finish((dim,) * 4, (patch_size,) * 4)

    @property
    def graph_side(self) -> int | None:
        """See :attr:`Backbone.graph_side`. Windows, cut to smaller maps, hold to a size."""
        return super().graph_side if self.window_size is None else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | tuple[list[Tensor]]:
        """Images ``(B, 3, H, W)`` to what ``out_type`` and ``out_indices`` say."""
        self.check_input(x)
        x, grid = self.stem(x)
        extra = self.stem.num_extra_tokens
        layout = Layout(grid, grid, extra)
        tokens: TokenState | None = None
        canvas: Tensor | None = None
        self.kept_tokens, maps = [], []
        for i, stage in enumerate(self.stages):
            for block in stage:
                before = x
                if block is self.stages[-1][-1] and self._needs_extra_alone(block):
                    layout = layout._replace(query_grid=NO_GRID)
                x, index, valid = self.run_block(block, x, layout, tokens)
                if index is None:
                    continue
                if not torch.compiler.is_compiling():  # a graph leaves nothing behind
                    self.kept_tokens.append(valid.sum(1))
                if layout.query_grid != NO_GRID:
                    tokens = tokens or full_state(x.shape[0], before.shape[1] - extra, x.device)
                    if self.out_type == 'featmap':
                        canvas = fill_canvas(canvas, before[:, extra:], tokens)
                    position = tokens.position.gather(1, index[:, extra:] - extra)
                    tokens = TokenState(position, valid, tokens.total)
            if i in self.out_indices:
                out = self.norm(x) if i == self.num_maps - 1 and hasattr(self, 'norm') else x
                if self.out_type == 'cls_token':
                    maps = list(out[:, :extra].unbind(1))
                else:
                    old = canvas if out is x or canvas is None else self.norm(canvas)
                    maps.append(as_map(out[:, extra:], grid, tokens, old))
        return (maps,) if self.out_type == 'cls_token' else tuple(maps)

    def _needs_extra_alone(self, block: Block) -> bool:
        """Whether of the last block nothing but the extra tokens is asked for, when deployed."""
        return (
            self.deployed
            and self.out_type == 'cls_token'
            and type(block.attn) is Attention
            and getattr(block.attn.mechanism, 'answers_extra_alone', False)
        )


def block_windows(
    window_size: int | None, global_blocks: Sequence[int] | None, depths: Sequence[int]
) -> list[int | None]:
    """The window of each block, None where it attends to the whole map.

    Raises:
        ValueError: ``window_size`` is no positive int; ``global_blocks`` without it, or out of
            range.
    """
    count = sum(depths)
    if window_size is None:
        if global_blocks is not None:
            raise ValueError(f'global_blocks={global_blocks!r} needs a window_size')
        return [None] * count
    if type(window_size) is not int or window_size < 1:
        raise ValueError(f'window_size={window_size!r}: None or a positive int is needed')
    if global_blocks is None:
        global_blocks = [sum(depths[: i + 1]) - 1 for i in range(len(depths))]
    if not all(i in range(count) for i in global_blocks):
        raise ValueError(f'global_blocks={global_blocks!r}: blocks are 0 to {count - 1}')
    return [None if i in global_blocks else window_size for i in range(count)]


def _with_sampling(
    attention: Mapping | None, block: int, sampled_blocks: Sequence[int] | None
) -> Mapping | None:
    if sampled_blocks is None:
        return attention
    if attention is None:
        raise ValueError('sampled_blocks needs an attention that samples tokens')
    return {**attention, 'sample': block in sampled_blocks}


def fill_canvas(canvas: Tensor | None, x: Tensor, tokens: TokenState) -> Tensor:
    """Write the features of the present tokens into the full row: ``(B, total, C)``."""
    if canvas is None:
        return x
    # Padding writes to a row behind the last, which is cut off.
    place = tokens.position.masked_fill(~tokens.valid, tokens.total)[..., None]
    longer = F.pad(canvas, (0, 0, 0, 1))
    return longer.scatter(1, place.expand(-1, -1, x.shape[-1]), x)[:, :-1]


def as_map(x: Tensor, grid: Size, tokens: TokenState | None, canvas: Tensor | None) -> Tensor:
    """Patch tokens ``(B, N, C)`` as a map ``(B, C, H, W)``, pruned cells out of the canvas."""
    if tokens is not None:
        x = fill_canvas(canvas, x, tokens)
    return x.transpose(1, 2).unflatten(2, grid)
