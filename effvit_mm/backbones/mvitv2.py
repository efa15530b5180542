"""MViTv2: a multiscale vision transformer whose attention pools queries, keys and values.

Li et al., "MViTv2: Improved Multiscale Vision Transformers for Classification and Detection", CVPR
2022, arXiv 2112.01526. A host: the attention between the pooled tokens is any mechanism.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import Layout, build_mechanism, has
from ..attention.caching import cached_by_size
from ..attention.mechanism import Size
from ..attention.sizes import surely_equal
from .base import Backbone, drop_path_rates, init_linear_layers
from .stochastic_depth import StochasticDepth

NORM_EPS = 1e-6
# Of the four stages. Queries shrink in a stage's first block alone; keys and values in all blocks,
# so that from an image of 224 x 224 every block attends to maps of 14 x 14 (the last stage: 7 x 7).
QUERY_STRIDES = (1, 2, 2, 2)
KEY_STRIDES = (4, 2, 1, 1)


class TokenPooling(nn.Module):
    """Depthwise 3 x 3 convolution, the same for all heads, then a layer norm of each head.

    Shapes:
        x: ``(B, H, W, heads * d)``; returns ``(B, heads, ceil(H/stride), ceil(W/stride), d)``.
    """

    def __init__(self, head_dim: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(head_dim, head_dim, 3, stride, 1, groups=head_dim, bias=False)
        self.norm = nn.LayerNorm(head_dim, NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        conv, channels = self.conv, x.shape[-1]
        heads = channels // conv.in_channels
        # One convolution of all channels with the kernels repeated: moving the heads into the batch
        # instead would copy the map twice.
        kernels = conv.weight
        if len(kernels) != channels:  # one head's; else repeated already
            kernels = kernels.repeat(heads, 1, 1, 1)
        x = F.conv2d(
            x.permute(0, 3, 1, 2), kernels, None, conv.stride, conv.padding, groups=channels
        )
        x = x.permute(0, 2, 3, 1).unflatten(-1, (heads, -1))  # B H W heads d
        return self.norm(x).permute(0, 3, 1, 2, 4)


@cached_by_size
def relative_position_index(queries: int, keys: int, finer: int, device: torch.device) -> Tensor:
    """Row of a table of offsets for each pair of places on one axis: ``(queries, keys)``.

    The table has ``2 finer - 1`` rows, for the offsets between the places of the finer side, which
    is the larger of ``queries`` and ``keys``; the places of the coarser side are spread over them,
    rounded down. Integers keep this exact; in floating point a few uneven pairs (10 keys for 39
    queries) come out one row lower.
    """
    query = torch.arange(queries) * finer // queries
    key = (keys - 1 - torch.arange(keys)) * finer // keys  # places from the far end: no negatives
    return (query[:, None] + key).to(device)


class DecomposedRelativePosition(nn.Module):
    """Logits of a query for the rows and for the columns of the keys' map, added.

    Section 4.1, equations 3 and 4: ``q . (R^h[y, y'] + R^w[x, x'])``, shared by all heads. The
    tables belong to maps of ``size`` places; for others they are interpolated.

    Shapes:
        q: ``(B, heads, H, W, d)``; returns ``(B, heads, H * W, H' * W')`` for keys on H' x W';
        ``finer`` is the larger of the two maps.
    """

    def __init__(self, head_dim: int, size: int) -> None:
        super().__init__()
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, head_dim))
        nn.init.trunc_normal_(self.rel_pos_h, std=0.02)
        nn.init.trunc_normal_(self.rel_pos_w, std=0.02)

    def forward(self, q: Tensor, key_grid: Size, finer: Size) -> Tensor:
        height, width = q.shape[2:4]
        rows = _offsets(self.rel_pos_h, height, key_grid[0], finer[0])  # H H' d
        columns = _offsets(self.rel_pos_w, width, key_grid[1], finer[1])  # W W' d
        rows = torch.einsum('bnhwd,hkd->bnhwk', q, rows)
        columns = torch.einsum('bnhwd,wkd->bnhwk', q, columns)
        bias = rows[..., None] + columns[..., None, :]  # B heads H W H' W'
        return bias.flatten(4).flatten(2, 3)


def _offsets(table: Tensor, queries: int, keys: int, finer: int) -> Tensor:
    """Vectors ``(queries, keys, d)`` of the pairs of places, of a table ``(rows, d)``."""
    rows = 2 * finer - 1
    if not surely_equal((len(table),), (rows,)):
        table = F.interpolate(table.T[None], size=rows, mode='linear')[0].T
    return table[relative_position_index(queries, keys, finer, table.device)]


class PoolingAttention(nn.Module):
    """Attention between pooled tokens, with a residual connection of the pooled queries.

    Shapes:
        x: ``(B, H, W, in_channels)``; returns ``(B, ceil(H/s), ceil(W/s), channels)``, s the
        queries' stride.

    Args:
        in_channels, channels, num_heads: Widths, and heads that divide ``channels``.
        query_stride, key_stride: Of the pooling of queries, and of keys and values.
        size: Side of the larger of the two pooled maps that the tables of relative positions are
            made for.
        attention: Config of the mechanism. One that takes no bias has no relative positions.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_heads: int,
        query_stride: int,
        key_stride: int,
        size: int,
        attention: Mapping | None,
    ) -> None:
        super().__init__()
        self.num_heads, head_dim = num_heads, channels // num_heads
        self.keys_finer = key_stride < query_stride
        self.qkv = nn.Linear(in_channels, 3 * channels)
        self.pool_q = TokenPooling(head_dim, query_stride)
        self.pool_k = TokenPooling(head_dim, key_stride)
        self.pool_v = TokenPooling(head_dim, key_stride)
        self.mechanism = build_mechanism(attention, num_heads, head_dim, head_dim)
        takes_bias = has(self.mechanism, 'takes_bias')
        self.relative_position = DecomposedRelativePosition(head_dim, size) if takes_bias else None
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k, v = self.pool_q(q), self.pool_k(k), self.pool_v(v)
        layout = Layout(tuple(q.shape[2:4]), tuple(k.shape[2:4]), 0)
        # May depend on the training mode.
        relative = self.relative_position if has(self.mechanism, 'takes_bias') else None
        finer = layout.key_grid if self.keys_finer else layout.query_grid
        bias = None if relative is None else relative(q, layout.key_grid, finer)
        q, k, v = (tokens.flatten(2, 3) for tokens in (q, k, v))  # B heads N d
        x = self.mechanism(q, k, v, layout, bias) + q
        return self.proj(x.transpose(1, 2).flatten(2).unflatten(1, layout.query_grid))


class MultiscaleBlock(nn.Module):
    """Pooling attention and an MLP; the widening, and a halving of the map, are in the attention.

    Shapes:
        x: ``(B, H, W, in_channels)``; returns ``(B, ceil(H/s), ceil(W/s), channels)``, s the
        queries' stride.
    """

    def __init__(self, in_channels: int, channels: int, drop_path: float, **attn: Any) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_channels, NORM_EPS)
        self.attn = PoolingAttention(in_channels, channels, **attn)
        widens = in_channels != channels
        self.shortcut_proj = nn.Linear(in_channels, channels) if widens else None
        stride = attn['query_stride']
        self.shortcut_pool = nn.MaxPool2d(stride + 1, stride, stride // 2) if stride > 1 else None
        self.norm2 = nn.LayerNorm(channels, NORM_EPS)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        # As published: the shortcut starts behind the norm where it is projected, else before it.
        shortcut = x if self.shortcut_proj is None else self.shortcut_proj(normed)
        if self.shortcut_pool is not None:
            shortcut = self.shortcut_pool(shortcut.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = shortcut + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class MViTv2(Backbone):
    """Multiscale Vision Transformer, version 2, without a class token.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, or a dict with the keys of the table:
            ``embed_dims`` and ``num_heads`` (of the first stage; each stage doubles both) and
            ``depths`` (blocks of the four stages).
        out_indices: Stages to return, of 0..3: strides 4, 8, 16, 32; maps ``(B, C, H, W)`` with C =
            1, 2, 4, 8 times ``embed_dims``.
        attention: The attention mechanism: ``dict(type='SoftmaxAttention')`` or another, with its
            options. Pooling and the residual connection of the queries stay; relative positions
            are there where the mechanism takes a bias.
        drop_path_rate: Stochastic depth of the last block; rises linearly from 0. Published: 0.1
            for tiny and small, 0.3 for base.
        final_norm: Norm the last stage's map, as classification needs. Detectors take the raw map.
        img_size: Side of the square images that the tables of relative positions are made for; at
            other sizes they are interpolated.
        frozen_stages, norm_eval, with_cp: See :class:`Backbone`.

    Raises:
        ValueError: An argument that is out of range; at call time, images that are too small.
    """

    arch_settings = {
        'tiny': {'embed_dims': 96, 'num_heads': 1, 'depths': (1, 2, 5, 2)},
        'small': {'embed_dims': 96, 'num_heads': 1, 'depths': (1, 2, 11, 2)},
        'base': {'embed_dims': 96, 'num_heads': 1, 'depths': (2, 3, 16, 3)},
    }

    def __init__(
        self,
        arch: str | Mapping = 'tiny',
        out_indices: int | Sequence[int] = -1,
        attention: Mapping | None = None,
        drop_path_rate: float = 0.1,
        final_norm: bool = True,
        img_size: int = 224,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__(arch, out_indices, frozen_stages, norm_eval, with_cp)
        if not isinstance(img_size, int) or img_size < self.min_size:
            raise ValueError(f'img_size={img_size!r}: an int of {self.min_size} or more is needed')
        settings = self.settings(arch)
        width, heads, depths = (settings[key] for key in ('embed_dims', 'num_heads', 'depths'))
        if width % heads:
            raise ValueError(f'num_heads={heads} does not divide embed_dims={width}')
        channels = [width * 2**i for i in range(4)]
        self.stem = nn.Conv2d(3, width, 7, 4, 3)
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        grid = -(-img_size // 4)
        self.stages = nn.ModuleList()
        for i in range(self.out_indices[-1] + 1):
            blocks = nn.Sequential()
            for j in range(depths[i]):
                query_stride = QUERY_STRIDES[i] if j == 0 else 1
                block = MultiscaleBlock(
                    channels[max(i - 1, 0)] if j == 0 else channels[i],
                    channels[i],
                    next(rates),
                    num_heads=heads * 2**i,
                    query_stride=query_stride,
                    key_stride=KEY_STRIDES[i],
                    size=-(-grid // min(query_stride, KEY_STRIDES[i])),
                    attention=attention,
                )
                blocks.append(block)
                grid = -(-grid // query_stride)
            self.stages.append(blocks)
        if final_norm and len(self.stages) == 4:
            self.norm = nn.LayerNorm(channels[3], NORM_EPS)
        init_linear_layers(self)
        self.finish(channels, strides=(4, 8, 16, 32))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` to the maps of ``out_indices``."""
        self.check_input(x)
        x = self.stem(x).permute(0, 2, 3, 1)  # B H W C
        maps = []
        for i, stage in enumerate(self.stages):
            for block in stage:
                x = self.run_block(block, x)
            if i in self.out_indices:
                maps.append(self.norm_behind(i)(x).permute(0, 3, 1, 2))
        return tuple(maps)
