"""Batch norms written into the linear layers and convolutions next to them.

In evaluation a batch norm is ``scale * x + shift`` for each channel, scale and shift being
constant. The functions return new layers and leave their arguments alone. Products are formed in
float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..attention.caching import SizeCache

Layer = TypeVar('Layer', nn.Conv2d, nn.Linear)

# Elements of an image's map below which one addition to all of it is faster than two to its border.
SMALL_MAP = 1 << 16


def norm_affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in evaluation: two of ``(C,)``, float64.

    Raises:
        ValueError: The norm keeps no running statistics; it normalises with the batch's own.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError('a batch norm without running statistics is no constant: cannot fold it')
    scale = (norm.running_var.detach().double() + norm.eps).rsqrt()
    shift = -norm.running_mean.detach().double() * scale
    if norm.weight is not None:
        weight = norm.weight.detach().double()
        scale, shift = scale * weight, shift * weight
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    return scale, shift


def _replaced(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """A copy of ``layer`` with these weights; the copy draws no random numbers."""
    dtype = layer.weight.dtype
    layer = deepcopy(layer)
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
    return layer


def _weights(layer: nn.Conv2d | nn.Linear) -> tuple[Tensor, Tensor | float]:
    bias = 0.0 if layer.bias is None else layer.bias.detach().double()
    return layer.weight.detach().double(), bias


def fold_conv_norm(conv: nn.Conv2d, norm: _BatchNorm) -> nn.Conv2d:
    """``norm(conv(x))`` as one convolution."""
    (weight, bias), (scale, shift) = _weights(conv), norm_affine(norm)
    return _replaced(conv, weight * scale[:, None, None, None], scale * bias + shift)


def fold_linear_norm(linear: nn.Linear, norm: _BatchNorm) -> nn.Linear:
    """``norm(linear(x))`` as one linear layer."""
    (weight, bias), (scale, shift) = _weights(linear), norm_affine(norm)
    return _replaced(linear, weight * scale[:, None], scale * bias + shift)


def fold_norm_linear(norm: _BatchNorm, linear: nn.Linear) -> nn.Linear:
    """``linear(norm(x))`` as one linear layer."""
    (weight, bias), (scale, shift) = _weights(linear), norm_affine(norm)
    return _replaced(linear, weight * scale, weight @ shift + bias)


def fold_norm_conv(norm: _BatchNorm, conv: nn.Conv2d) -> nn.Conv2d | ShiftedConv2d:
    """``conv(norm(x))`` as one convolution; as a :class:`ShiftedConv2d` where ``conv`` pads.

    Raises:
        ValueError: The padding is no constant zero, or reaches past the outermost outputs.
    """
    if conv.padding_mode != 'zeros' or isinstance(conv.padding, str):
        raise ValueError(f'cannot fold a norm into {conv}: zero padding, as numbers, is needed')
    if any(pad > step for pad, step in zip(conv.padding, conv.stride, strict=True)):
        raise ValueError(f'cannot fold a norm into {conv}: the padding exceeds the stride')
    (weight, bias), affine = _weights(conv), norm_affine(norm)
    groups, (width, inner) = conv.groups, weight.shape[:2]
    # Channels that each output sees, of (C,): (O, C / groups, 1, 1).
    scale, shift = (
        t.view(groups, 1, inner).expand(-1, width // groups, -1).reshape(width, inner, 1, 1)
        for t in affine
    )
    taps = (weight * shift).sum(1)  # O kh kw
    folded = _replaced(conv, weight * scale, bias + taps.sum((1, 2)))
    if not any(conv.padding):
        return folded
    return ShiftedConv2d(folded, taps.to(conv.weight.dtype))


def mean_linear(layers: Sequence[nn.Linear], joined: bool) -> nn.Linear:
    """The mean of linear layers as one: of the same input, or each of its part of a joined one."""
    weights, biases = zip(*map(_weights, layers), strict=True)
    count = len(layers)
    weight = torch.cat(weights, 1) / count if joined else sum(weights) / count
    result = _replaced(layers[0], weight, sum(biases) / count + torch.zeros_like(weight[:, 0]))
    result.in_features = weight.shape[1]
    return result


class ShiftedConv2d(nn.Module):
    """Convolution of ``x + shift``, a shift for each channel, whose zero padding stays zero.

    The shift adds a constant to every output, which is in the convolution's bias. Outputs at the
    border, some of whose taps lie in the padding, get less of it: that is taken back there. (A
    padding of ``-shift`` would do it too, but would copy the map; so would a full map of constants
    added, but for small maps, where it is the faster way.)

    Args:
        conv: The convolution, with the shift's full constant in its bias. Zero padding of at most
            the stride, so that only the outermost outputs see it.
        taps: ``(O, kh, kw)``, what the shift contributes to an output by way of each tap.

    Shapes:
        ``(B, C, H, W)`` to what ``conv`` makes of it.
    """

    def __init__(self, conv: nn.Conv2d, taps: Tensor) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer('taps', taps)
        self.kept = SizeCache(active=True)
        self.training = conv.training

    def forward(self, x: Tensor) -> Tensor:
        return self.correct(self.conv(x), (x.shape[2], x.shape[3]))

    def correct(self, y: Tensor, size: tuple[int, int], first: int = 0) -> Tensor:
        """Take back at the border what the shift has too much there; ``y`` is written over.

        Args:
            y: Rows of ``conv``'s output, ``(B, O, rows, W')``, from row ``first`` on.
            size: (H, W) of the whole input.
        """
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return y + self.excess(size).to(y.dtype)  # writing to slices makes clumsy graphs
        kept = self.kept.get((size, y.dtype), self.taps, lambda: self._border(size, y.dtype))
        rows = y.shape[2]
        if len(kept) == 1:
            return y.add_(kept[0][:, :, first : first + rows])
        top, bottom, sides = kept
        begins, ends = first == 0, first + rows == self._outputs(size[0], 0)
        if begins:
            y[:, :, :1].add_(top)
        if ends:
            y[:, :, -1:].add_(bottom)
        y[:, :, int(begins) : rows - int(ends), :: y.shape[3] - 1].add_(sides)
        return y

    def _border(self, size: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Corrections for inputs of ``size``: of the whole map, or of the first row, the last row
        and, being the same in all other rows, both ends of a row.
        """
        height, width = (self._outputs(length, axis) for axis, length in enumerate(size))
        whole = height * width * self.conv.out_channels < SMALL_MAP or min(height, width) < 3
        if not whole:  # a map of three rows has a row of each kind
            size = (size[0] - (height - 3) * self.conv.stride[0], size[1])
        excess = self.excess(size).to(dtype).contiguous(memory_format=torch.channels_last)
        if whole:
            return (excess,)
        return excess[:, :, :1], excess[:, :, 2:], excess[:, :, 1:2, :: width - 1]

    def excess(self, size: tuple[int, int]) -> Tensor:
        """What the bias has too much, negative: ``(1, O, H', W')`` for inputs of ``size``."""
        inside = [self._inside(length, axis) for axis, length in enumerate(size)]
        taps = self.taps.float()
        columns = (taps[:, :, None] * inside[1]).sum(-1)  # O kh W'
        rows = [columns[:, i, None] * inside[0][:, i, None] for i in range(taps.shape[1])]
        return (sum(rows) - taps.sum((1, 2))[:, None, None])[None]

    def _inside(self, length: int, axis: int) -> Tensor:
        """Which taps of which output lie within the input, on one axis: 0 or 1, ``(H', kh)``."""
        conv = self.conv
        (stride, pad, dilation, kernel) = (
            values[axis] for values in (conv.stride, conv.padding, conv.dilation, conv.kernel_size)
        )
        first = torch.arange(self._outputs(length, axis), device=self.taps.device) * stride - pad
        tap = first[:, None] + torch.arange(kernel, device=self.taps.device) * dilation
        return ((tap >= 0) & (tap < length)).float()

    def _outputs(self, length: int, axis: int) -> int:
        """Outputs of ``length`` inputs along an axis."""
        conv = self.conv
        reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1) + 1
        return (length + 2 * conv.padding[axis] - reach) // conv.stride[axis] + 1


def fold_batch_norms(*parts: nn.Sequential) -> None:
    """Fold the batch norms of sequences that run one after another, in place.

    A norm behind a convolution goes into that; one in front of a convolution into that one, also
    from the end of a sequence to the start of the next. So only a sequence whose output goes
    nowhere else may have another behind it here. Norms with neither stay.
    """
    layers: list[nn.Module | None] = [layer for part in parts for layer in part]
    for i, norm in enumerate(layers):
        if i and isinstance(norm, _BatchNorm) and isinstance(layers[i - 1], nn.Conv2d):
            layers[i - 1], layers[i] = fold_conv_norm(layers[i - 1], norm), None
    for i, norm in enumerate(layers[:-1]):
        if isinstance(norm, _BatchNorm) and isinstance(layers[i + 1], nn.Conv2d):
            layers[i], layers[i + 1] = None, fold_norm_conv(norm, layers[i + 1])
    rest = iter(layers)
    for part in parts:
        kept = [layer for layer in islice(rest, len(part)) if layer is not None]
        del part[:]
        part.extend(kept)
