"""Modules that stand in a deployed network in the place of others: the same by another order."""

from __future__ import annotations

from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import CrossAttention, ShiftedWindowAttention
from ..attention.mechanism import Size
from ..attention.sizes import is_open, is_recorded
from ..backbones.pslt import InvertedResidual
from .folding import ShiftedConv2d

# Bytes of the widest map that is made at once. Larger ones fall out of the caches, and from 32 MiB
# on the C library fetches fresh pages for each. Runtimes keep the maps of a graph in one piece of
# memory: bands save it where images are large, and cost steps.
BAND, GRAPH_BAND = 2 << 20, 16 << 20


class PixelLinear(nn.Conv2d):
    """A 1x1 convolution as a linear layer of the pixels: one product in channels-last memory.

    Args:
        conv: 1x1, with a stride of one, no padding and one group; its weights are taken over.

    Shapes:
        ``(B, C, H, W)`` to ``(B, C', H, W)``.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy(conv).__dict__)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return y.permute(0, 3, 1, 2)


class GELUWrittenOver(nn.Conv2d):
    """A convolution and the exact GELU, which is written over what the convolution gave.

    To be named before a class of convolutions. Its result is a new tensor that nobody else has, a
    hook neither: the two are one module.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy(conv).__dict__)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.gelu_(super().forward(x))


class PixelLinearGELU(GELUWrittenOver, PixelLinear):
    """A 1x1 convolution as a linear layer of the pixels, and GELU: ``(B, C', H, W)``."""


class ShiftedConvGELU(GELUWrittenOver, ShiftedConv2d):
    """A convolution of ``x + shift`` whose zero padding stays zero, and GELU."""


class LinearGELU(nn.Linear):
    """A linear layer and the exact GELU, which is written over what the layer gave."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy(layer).__dict__)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.gelu_(super().forward(x))


def join_gelu(part: nn.Sequential) -> None:
    """Make one module of a convolution and the GELU behind it, the first two of a sequence."""
    kinds = {PixelLinear: PixelLinearGELU, ShiftedConv2d: ShiftedConvGELU}
    part[0] = kinds.get(type(part[0]), GELUWrittenOver)(part[0])
    del part[1]


class GatheredWindowAttention(ShiftedWindowAttention):
    """Shifted-window attention that has the bias of each pair of positions instead of a table.

    Args:
        layer: With a table of relative positions; the rest is taken over.

    Shapes:
        relative_position_bias: ``(heads, L, L)``, L = ``window_size ** 2``.
    """

    def __init__(self, layer: ShiftedWindowAttention) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy(layer).__dict__)
        size = self.window_size
        bias = super().relative_positions((size, size)).detach().contiguous()
        del self.relative_position_bias_table
        self.register_buffer('relative_position_bias', bias)

    def relative_positions(self, window: Size) -> Tensor:
        (h, w), size = window, self.window_size
        if (h, w) == (size, size):
            return self.relative_position_bias
        # Of a window that is cut to a smaller map: the corner of the whole window's bias.
        bias = self.relative_position_bias.view(-1, size, size, size, size)
        return bias[:, :h, :w, :h, :w].reshape(-1, h * w, h * w)


class BandedInvertedResidual(nn.Module):
    """An inverted residual with its norms folded, whose wide map is never whole.

    Rows of the map go through its three convolutions in bands, images in groups; each band overlaps
    the next by the rows that the depthwise convolution sees of it. Graphs have few, and one where
    they are for any size.

    Args:
        block: With folded norms; its layers are taken over.

    Shapes:
        x: ``(B, C, H, W)``; returns ``(B, C', H / stride, W / stride)``, rounded up.
    """

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        self.expand, self.depthwise, self.project = block.expand, block.depthwise, block.project
        self.se, self.residual = block.se, block.residual
        self.width, self.stride = self.depthwise[0].in_channels, self.depthwise[0].stride[0]
        self.train(block.training)

    def forward(self, x: Tensor) -> Tensor:
        row = x.shape[3] * self.width * x.element_size()  # bytes of the wide map
        if is_recorded():
            # Asked first: in a graph for any size, a condition on it would hold it to some.
            open_size = is_open(x.shape[2], x.shape[3])
            y = self._in_bands(x, x.shape[2] if open_size else GRAPH_BAND // row)
        else:
            images = x.split(max(1, BAND // (x.shape[2] * row)))
            y = torch.cat([self._in_bands(part, BAND // row) for part in images])
        y = y.permute(0, 2, 3, 1)  # as tokens: a view, and graphs need no other order of memory
        y = y * self.se.gate(y.mean((1, 2)))[:, None, None]
        y = x.permute(0, 2, 3, 1) + y if self.residual else y
        return y.permute(0, 3, 1, 2)

    def _in_bands(self, x: Tensor, rows: int) -> Tensor:
        """The three convolutions, about ``rows`` rows of ``x`` at a time."""
        height, stride = x.shape[2], self.stride
        if is_open(height) or height <= rows:
            return self.project(self.depthwise(self.expand(x)))
        outputs, step = (height + stride - 1) // stride, max(1, rows // stride)
        bands = []
        for first in range(0, outputs, step):
            last = min(first + step, outputs)
            # Outputs before and behind see the band's zero padding where the image goes on:
            # they are cut off.
            low, high = max(0, (first - 1) * stride), min(height, (last - 1) * stride + 2)
            y = self.depthwise(self.expand(x[:, :, low:high]))
            begin = first - low // stride
            bands.append(self.project(y[:, :, begin : begin + last - first]))
        return torch.cat(bands, 2)


class OneQueryAttention(CrossAttention):
    """Cross-attention that makes no keys and values of all the tokens.

    There being one query, its product with a key is ``q^T (W_k x) = (W_k^T q)^T x``, and the
    weighted mean of the values ``W_v`` times that of the tokens: a projection of one token for each
    head where there were two of all tokens. The bias of the keys adds the same to all logits of a
    head, which softmax does not see; that of the values is added to their mean.

    Args:
        layer: Its projections are taken over.

    Shapes:
        x: ``(B, N, dim)``, the class token first; valid: ``(B, N)`` or None. Returns ``(B, 1,
        dim)``.
    """

    def __init__(self, layer: CrossAttention) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy(layer).__dict__)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        heads, dim = self.num_heads, x.shape[-1]
        to_key, to_value = (layer.weight.view(heads, -1, dim) for layer in (self.k, self.v))
        q = self.q(x[:, 0]).view(-1, heads, dim // heads).transpose(0, 1)  # heads B d
        queries = torch.bmm(q, to_key).transpose(0, 1).unsqueeze(1)  # B 1 heads C
        tokens, mask = x.unsqueeze(1), None if valid is None else valid[:, None, None]
        mean = F.scaled_dot_product_attention(
            queries, tokens, tokens, attn_mask=mask, scale=(dim // heads) ** -0.5
        )
        mean = mean.squeeze(1).transpose(0, 1)  # heads B C
        values = torch.bmm(mean, to_value.transpose(-2, -1)).transpose(0, 1).reshape(-1, dim)
        values = values if self.v.bias is None else values + self.v.bias
        return self.proj(values.unsqueeze(1))
