"""LeViT: a pyramid of attention stages behind a stem of convolutions.

Graham et al., "LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference", ICCV 2021,
arXiv 2104.01136. Batch norm follows every convolution and linear layer, so that inference folds it
away; Hardswish is the only activation; positions enter the attention logits as a learned bias of
each distance. There are no class tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import Layout, build_mechanism, has
from ..attention.caching import cached_by_size
from ..attention.mechanism import Size
from ..attention.sizes import surely_equal
from .base import Backbone, drop_path_rates
from .stochastic_depth import StochasticDepth

# Width of a value over the width of a key, and of an MLP over its input: the same in all variants.
VALUE_RATIO, SUBSAMPLE_VALUE_RATIO, MLP_RATIO = 2, 4, 2


class ConvNorm(nn.Sequential):
    """3 x 3 convolution of stride 2 -> batch norm: ``(B, C, H, W) -> (B, C', H/2, W/2)``, ceil."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels))


class LinearNorm(nn.Module):
    """Linear layer -> batch norm over all tokens: ``(B, N, C) -> (B, N, C')``.

    Args:
        scale: The norm's scale at the start; 0 makes a residual branch an identity.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=False)
        self.norm = nn.BatchNorm1d(out_features)
        nn.init.constant_(self.norm.weight, scale)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.norm(y.flatten(0, -2)).view_as(y)


@cached_by_size
def axis_distances(queries: int, keys: int, stride: int, device: torch.device) -> Tensor:
    """``|stride * i - j|`` of query i and key j on one axis of the map: ``(queries, keys)``."""
    place = torch.arange(queries)[:, None] * stride
    return (place - torch.arange(keys)).abs().to(device)


class DistanceBias(nn.Module):
    """A learned logit for each head and each distance ``(|dy|, |dx|)`` of a key from a query.

    On maps of another size than ``grid`` the table is interpolated so that a token's distance to
    itself and the largest distance keep their values. ``table`` is to be spared weight decay.

    Args:
        num_heads: Heads.
        grid: (H, W) of the keys' map that the table is for.
        stride: Cells of the keys' map from one query to the next.

    Shapes:
        table: ``(heads, H * W)``, |dy| * W + |dx| being a distance's place, as published. Returns
        ``(1, heads, N, M)``, for N queries and M keys.
    """

    def __init__(self, num_heads: int, grid: Size, stride: int = 1) -> None:
        super().__init__()
        self.grid, self.stride = grid, stride
        self.table = nn.Parameter(torch.zeros(num_heads, grid[0] * grid[1]))

    def forward(self, layout: Layout) -> Tensor:
        table = self.table.unflatten(1, self.grid)[None]
        if not surely_equal(layout.key_grid, self.grid):
            table = F.interpolate(table, layout.key_grid, mode='bilinear', align_corners=True)
        rows, columns = (
            axis_distances(queries, keys, self.stride, table.device)
            for queries, keys in zip(layout.query_grid, layout.key_grid, strict=True)
        )
        # 1, heads, Hq, Wq, Hk, Wk: indices of one axis broadcast, none of all pairs is kept.
        bias = table[:, :, rows[:, None, :, None], columns[None, :, None, :]]
        return bias.flatten(4, 5).flatten(2, 3)


class BiasedAttention(nn.Module):
    """What both attention layers share: the mechanism, its bias, Hardswish and the projection.

    Args:
        out_dim: Channels of the result.
        num_heads, key_dim, value_dim: Heads, and widths of one head.
        grid: (H, W) of the map that the bias table is for.
        attention: Config of the mechanism. One that takes no bias gets no bias table.
        stride: Cells of the map from one query to the next.
        scale: Of the last norm at the start.
    """

    def __init__(
        self,
        out_dim: int,
        num_heads: int,
        key_dim: int,
        value_dim: int,
        grid: Size,
        attention: Mapping | None,
        stride: int,
        scale: float,
    ) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.stride = stride
        self.mechanism = build_mechanism(attention, num_heads, key_dim, value_dim)
        if has(self.mechanism, 'takes_bias'):
            self.relative_position_bias = DistanceBias(num_heads, grid, stride)
        self.proj = LinearNorm(num_heads * value_dim, out_dim, scale)

    def split_heads(self, x: Tensor, *widths: int) -> tuple[Tensor, ...]:
        """``(B, N, heads * sum(widths))`` to one ``(B, heads, N, width)`` a width."""
        parts = x.unflatten(-1, (self.num_heads, -1)).split(widths, dim=-1)
        return tuple(part.transpose(1, 2) for part in parts)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, query_grid: Size, key_grid: Size) -> Tensor:
        """Attention of split heads, projected: ``(B, Hq * Wq, out_dim)``."""
        layout = Layout(query_grid, key_grid, 0)
        takes_bias = has(self.mechanism, 'takes_bias')  # may depend on the training mode
        bias = self.relative_position_bias(layout) if takes_bias else None
        x = self.mechanism(q, k, v, layout, bias=bias)  # B heads N value_dim
        return self.proj(F.hardswish(x.transpose(1, 2).flatten(2)))


class Attention(BiasedAttention):
    """Attention among the tokens of a map: ``(B, H * W, C) -> (B, H * W, C)``."""

    def __init__(
        self, dim: int, num_heads: int, key_dim: int, grid: Size, attention: Mapping | None
    ) -> None:
        value_dim = VALUE_RATIO * key_dim
        super().__init__(dim, num_heads, key_dim, value_dim, grid, attention, stride=1, scale=0.0)
        self.qkv = LinearNorm(dim, num_heads * (2 * key_dim + value_dim))

    def forward(self, x: Tensor, grid: Size) -> Tensor:
        q, k, v = self.split_heads(self.qkv(x), self.key_dim, self.key_dim, self.value_dim)
        return self.attend(q, k, v, grid, grid)


class SubsampleAttention(BiasedAttention):
    """Every second token of every second row asks the whole map; there is no residual.

    ``(B, H * W, C) -> (B, ceil(H/2) * ceil(W/2), out_dim)``, with C / key_dim heads.
    """

    def __init__(
        self, dim: int, out_dim: int, key_dim: int, grid: Size, attention: Mapping | None
    ) -> None:
        heads, value_dim = dim // key_dim, SUBSAMPLE_VALUE_RATIO * key_dim
        super().__init__(out_dim, heads, key_dim, value_dim, grid, attention, stride=2, scale=1.0)
        self.kv = LinearNorm(dim, heads * (key_dim + value_dim))
        self.q = LinearNorm(dim, heads * key_dim)

    def forward(self, x: Tensor, grid: Size) -> Tensor:
        # The projection would copy it all the same, and torch.export would ask for its strides.
        asking = x.unflatten(1, grid)[:, ::2, ::2].contiguous()
        (q,) = self.split_heads(self.q(asking.flatten(1, 2)), self.key_dim)
        k, v = self.split_heads(self.kv(x), self.key_dim, self.value_dim)
        return self.attend(q, k, v, tuple(asking.shape[1:3]), grid)


class MLP(nn.Module):
    """Two linear layers with Hardswish between: ``(B, N, C) -> (B, N, C)``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = LinearNorm(dim, MLP_RATIO * dim)
        self.fc2 = LinearNorm(MLP_RATIO * dim, dim, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.hardswish(self.fc1(x)))


class LeViTBlock(nn.Module):
    """Attention and MLP, with residuals: maps ``(B, C, H, W)`` in channels-last memory.

    Around an attention that subsamples there is no residual: it returns ``(B, C', ceil(H/2),
    ceil(W/2))``.
    """

    def __init__(self, attn: BiasedAttention, dim: int, drop_path: float) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = MLP(dim)
        self.drop_path = StochasticDepth(drop_path)
        self.residual = attn.stride == 1

    def forward(self, x: Tensor) -> Tensor:
        grid = tuple(x.shape[2:])
        x = x.flatten(2).transpose(1, 2)  # a view; runtimes add tokens faster than maps
        x = x + self.drop_path(self.attn(x, grid)) if self.residual else self.attn(x, grid)
        x = x + self.drop_path(self.mlp(x))
        if not self.residual:
            grid = tuple((side + 1) // 2 for side in grid)  # no negatives: ONNX rounds to zero
        return x.transpose(1, 2).unflatten(2, grid)


# The paper's table 4: widths, heads and blocks of the three stages; width of a head's keys.
_KEYS = ('embed_dims', 'num_heads', 'depths', 'key_dim')
_VARIANTS = {
    '128s': ((128, 256, 384), (4, 6, 8), (2, 3, 4), 16),
    '128': ((128, 256, 384), (4, 8, 12), (4, 4, 4), 16),
    '192': ((192, 288, 384), (3, 5, 6), (4, 4, 4), 32),
    '256': ((256, 384, 512), (4, 6, 8), (4, 4, 4), 32),
    '384': ((384, 512, 768), (6, 9, 12), (4, 4, 4), 32),
}


class LeViT(Backbone):
    """LeViT as a backbone, its attention being a choice.

    Args:
        arch: ``'128s'``, ``'128'``, ``'192'``, ``'256'``, ``'384'``, or a dict with the keys of the
            table: ``embed_dims``, ``depths`` and ``num_heads`` of the three stages, ``key_dim`` of
            one head.
        out_indices: Maps to return, of 0..3, ``(B, C, H, W)``: 0 is the stem's third convolution
            after its activation (stride 8, C = half of ``embed_dims[0]``), 1..3 are the stages
            (strides 16, 32, 64).
        attention: ``dict(type='SoftmaxAttention')`` or another mechanism with its options.
        img_size: Image size, a side or (H, W), whose token grid the learned bias tables have; at
            others they are interpolated. Published weights have 224.
        drop_path_rate: Stochastic depth of the last block; rises linearly from 0. Published
            weights were trained without it.
        frozen_stages: Here the stem (0) is its first two convolutions, 1 freezes the third too,
            2..4 the stages.
        norm_eval, with_cp: See :class:`Backbone`.

    Raises:
        ValueError: An argument that is out of range; at call time, images that are too small.
    """

    arch_settings = {
        name: dict(zip(_KEYS, variant, strict=True)) for name, variant in _VARIANTS.items()
    }

    def __init__(
        self,
        arch: str | Mapping = '128s',
        out_indices: int | Sequence[int] = -1,
        attention: Mapping | None = None,
        img_size: int | Size = 224,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__(arch, out_indices, frozen_stages, norm_eval, with_cp)
        settings = self.settings(arch)
        widths, heads, key_dim = (settings[k] for k in ('embed_dims', 'num_heads', 'key_dim'))
        grids = stage_grids(img_size)
        eighth, quarter, half = (widths[0] // n for n in (8, 4, 2))
        self.stem = nn.Sequential(
            ConvNorm(3, eighth).append(nn.Hardswish()),
            ConvNorm(eighth, quarter).append(nn.Hardswish()),
        )

        depths = [settings['depths'][0], *(1 + n for n in settings['depths'][1:])]
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))

        def stage(i: int) -> list[nn.Module]:
            width, grid = widths[i], grids[i]
            # Stage 0 starts from the stem's last convolution, which no activation follows.
            first: nn.Module
            if i == 0:
                first = ConvNorm(half, width)
            else:
                attn = SubsampleAttention(widths[i - 1], width, key_dim, grids[i - 1], attention)
                first = LeViTBlock(attn, width, next(rates))
            attns = (
                Attention(width, heads[i], key_dim, grid, attention)
                for _ in range(settings['depths'][i])
            )
            return [first, *(LeViTBlock(attn, width, next(rates)) for attn in attns)]

        self.stages = nn.ModuleList(
            [nn.Sequential(ConvNorm(quarter, half).append(nn.Hardswish()))]
            + [nn.Sequential(*stage(i)) for i in range(self.out_indices[-1])]
        )
        self.finish([half, *widths], strides=(8, 16, 32, 64))

    @classmethod
    def settings(cls, arch: str | Mapping) -> dict:
        """See :meth:`Backbone.settings`; widths must fit the stem and the heads between stages."""
        settings = super().settings(arch)
        widths, key_dim = settings['embed_dims'], settings['key_dim']
        if widths[0] % 8:
            raise ValueError(f'arch: embed_dims[0]={widths[0]} must be a multiple of 8, the stem')
        if any(width % key_dim for width in widths[:2]):
            raise ValueError(
                f'arch: key_dim={key_dim} must divide embed_dims[:2]={widths[:2]}: the quotient is '
                'the number of heads between stages'
            )
        return settings

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` to the maps of ``out_indices``."""
        self.check_input(x)
        # Convolutions run in channels-last memory, so that the change to tokens is a view.
        x = self.run_block(self.stem, x.contiguous(memory_format=torch.channels_last))
        maps = []
        for i, stage in enumerate(self.stages):
            for block in stage:
                x = self.run_block(block, x)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)


def stage_grids(img_size: int | Size) -> list[Size]:
    """(H, W) of the three stages' maps for images of ``img_size`` pixels.

    Raises:
        ValueError: ``img_size`` is neither a positive int nor two of them.
    """
    sides = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    if len(sides) != 2 or not all(isinstance(n, int) and n > 0 for n in sides):
        raise ValueError(f'img_size={img_size!r}: a positive int or two, (H, W), are needed')
    height, width = sides
    return [(-(-height // stride), -(-width // stride)) for stride in (16, 32, 64)]
