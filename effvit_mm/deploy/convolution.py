"""Convolutions in fewer and smaller steps, for eager inference. Elsewhere they are what they were.

Maps are taken in channels-last memory, in which a 1x1 convolution is one matrix product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..attention.caching import SizeCache
from ..attention.eager import gelu, on_onednn, plain_float32, product, runs_eagerly
from .linear import PackedWeight, may_pack, packed_product

# Elements of an output from which on oneDNN's convolution, which applies GELU on the way, is faster
# than PyTorch's own steps; below, what its calls cost on top is more than the saving.
WIDE_MAP = 1 << 19
# Bytes of the widest map that is made at once. Larger ones fall out of the caches, and from 32 MiB
# on the C library fetches fresh pages for each.
BAND = 4 << 20


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution with a stride of one: in eager inference, a linear layer of the pixels.

    Arguments as for the 1x1 ``nn.Conv2d(in_channels, out_channels, 1, bias=bias)``.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not runs_eagerly(x, self.weight):
            return super().forward(x)
        return product(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


class ConvGELU(nn.Sequential):
    """A convolution, exact GELU, and what may follow: a batch norm, until that is folded.

    Args:
        conv: The convolution; a :class:`ShiftedConv2d` once a norm was folded into it.
        rest: ``nn.GELU()`` and what follows.

    Shapes:
        ``(B, C, H, W)`` to what the convolution makes of it.
    """

    def forward(self, x: Tensor) -> Tensor:
        conv, _, *rest = self
        y = fused_gelu(conv, x) if _fuses(conv, x) else gelu(conv(x))
        for layer in rest:
            y = layer(y)
        return y


def fused_gelu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``gelu(conv(x))`` by one kernel of oneDNN's."""
    return _onednn(conv, x, conv.weight, 'gelu', 'none')  # the exact GELU


def packed_conv(conv: nn.Conv2d, x: Tensor, kept: SizeCache, relu: bool = False) -> Tensor:
    """``conv(x)``, or ``relu(conv(x))``, by weights that were brought into oneDNN's order once.

    Args:
        conv: A convolution, or what a tool put into its place: that is called as it is.
        x: ``(B, C, H, W)``.
        kept: Of this convolution alone; nothing is kept, and the plain steps run, until it is
            active. The order depends on the size of ``x``.
    """
    if not (kept.active and _is_plain(conv) and on_onednn(x, conv.weight)):
        y = conv(x)
        return y.relu() if relu else y

    def pack() -> Tensor:
        return torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight.detach(), conv.padding, conv.stride, conv.dilation, conv.groups, x.shape
        )

    return _onednn(conv, x, kept.get(x.shape, conv.weight, pack), 'relu' if relu else 'none', '')


def packed_patches(conv: nn.Conv2d, x: Tensor, packed: PackedWeight) -> Tensor:
    """``conv(x)`` of a convolution whose stride is its kernel, as a linear layer of the patches.

    Args:
        conv: Such a convolution, or what stands in its place: that is called as it is.
        x: ``(B, C, p H, p W)`` for patches of p x p; returns ``(B, out, H, W)``.
        packed: Of this convolution alone.
    """
    if not (_is_plain(conv) and may_pack(x, conv.weight, packed)):
        return conv(x)
    height, width = conv.stride
    patches = x.unflatten(3, (-1, width)).unflatten(2, (-1, height)).permute(0, 2, 4, 1, 3, 5)
    return packed_product(patches.flatten(3), conv.weight, conv.bias, packed).permute(0, 3, 1, 2)


def _onednn(conv: nn.Conv2d, x: Tensor, weight: Tensor, activation: str, kind: str) -> Tensor:
    """A convolution and an activation, in channels-last memory."""
    return torch.ops.mkldnn._convolution_pointwise.default(
        x.contiguous(memory_format=torch.channels_last),
        weight,
        conv.bias,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        activation,
        [],
        kind,
    )


def _is_plain(conv: nn.Module) -> bool:
    """Whether it is a convolution that oneDNN's step can stand for, and nobody looks at it."""
    return (
        isinstance(conv, nn.Conv2d)
        and not isinstance(conv.padding, str)
        and conv.padding_mode == 'zeros'
        and not (conv._forward_hooks or conv._forward_pre_hooks)
    )


def _fuses(conv: nn.Module, x: Tensor) -> bool:
    """Whether :func:`fused_gelu` applies, and is worth its call."""
    return (
        _is_plain(conv)
        and on_onednn(x, conv.weight)
        and x.numel() // x.shape[1] * conv.out_channels >= WIDE_MAP * conv.stride[0] ** 2
    )


def bottleneck(
    expand: nn.Module, depthwise: nn.Sequential, project: nn.Sequential, x: Tensor
) -> Tensor:
    """``project(depthwise(expand(x)))``, the wide map in between never being whole.

    Rows of ``x`` go through all three in bands, images in groups; each band overlaps the next by
    what the depthwise convolution sees of it.

    Args:
        expand, project: They work on each pixel alone, ``project`` by a 1x1 convolution at first.
        depthwise: :class:`ShiftedConv2d` of 3x3 with a padding of one, and a GELU.
        x: ``(B, C, H, W)``.
    """
    shifted, stride = depthwise[0], depthwise[0].conv.stride[0]
    images, _, height, width = x.shape
    row = width * shifted.conv.in_channels * x.element_size()
    # Asked first: in a graph for any size, a condition on the size would hold it to some.
    if not runs_eagerly(x, shifted.conv.weight) or images * height * row <= BAND:
        return project(depthwise(expand(x)))
    group, rows = max(1, BAND // (height * row)), max(1, BAND // (row * stride))
    outputs = (height + stride - 1) // stride
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    shape = (images, outputs, (width + stride - 1) // stride, project[0].out_channels)
    whole = x.new_empty(shape, dtype=dtype)  # in channels-last memory
    for image in range(0, images, group):
        part = x[image : image + group]
        for first in range(0, outputs, rows):
            last = min(first + rows, outputs)
            low, high = max(0, (first - 1) * stride), min(height, (last - 1) * stride + 2)
            y = shifted.conv(expand(part[:, :, low:high]))
            # But at the image's border the zero padding stands for rows that are not zero; the
            # output that saw it is the one before the first.
            y = y[:, :, int(first > 0) :][:, :, : last - first]
            y = shifted.correct(y, (height, width), first)
            _write(project, gelu(y), whole[image : image + group, first:last])
    return whole.permute(0, 3, 1, 2)


def _write(project: nn.Sequential, x: Tensor, into: Tensor) -> None:
    """Put ``project(x)`` of ``(B, C, H, W)`` into ``(B, H, W, out)``, contiguous memory."""
    conv, *rest = project
    if rest or not (_is_plain(conv) and plain_float32(x, conv.weight)):
        into.copy_(project(x).permute(0, 2, 3, 1))
        return
    pixels = x.permute(0, 2, 3, 1).flatten(0, 2)
    out = torch.mm(pixels, conv.weight.flatten(1).t(), out=into.view(-1, into.shape[3]))
    if conv.bias is not None:
        out.add_(conv.bias)
