"""Batch norms written into the linear layers and convolutions next to them.

In evaluation a batch norm is ``scale * x + shift`` for each channel, scale and shift being
constant. The functions return new layers and leave their arguments alone. Products are formed in
float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..attention.caching import cached_by_size
from ..backbones.base import BatchNorm

Layer = TypeVar('Layer', nn.Conv2d, nn.Linear)


def norm_affine(norm: BatchNorm) -> tuple[Tensor, Tensor]:
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


def fold_conv_norm(conv: nn.Conv2d, norm: BatchNorm) -> nn.Conv2d:
    """``norm(conv(x))`` as one convolution."""
    (weight, bias), (scale, shift) = _weights(conv), norm_affine(norm)
    return _replaced(conv, weight * scale[:, None, None, None], scale * bias + shift)


def fold_linear_norm(linear: nn.Linear, norm: BatchNorm) -> nn.Linear:
    """``norm(linear(x))`` as one linear layer."""
    (weight, bias), (scale, shift) = _weights(linear), norm_affine(norm)
    return _replaced(linear, weight * scale[:, None], scale * bias + shift)


def fold_norm_linear(norm: BatchNorm, linear: nn.Linear) -> nn.Linear:
    """``linear(norm(x))`` as one linear layer."""
    (weight, bias), (scale, shift) = _weights(linear), norm_affine(norm)
    return _replaced(linear, weight * scale, weight @ shift + bias)


def fold_norm_conv(norm: BatchNorm, conv: nn.Conv2d) -> nn.Conv2d | ShiftedConv2d:
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


class ShiftedConv2d(nn.Conv2d):
    """Convolution of ``x + shift``, a shift for each channel, whose zero padding stays zero.

    The shift adds a constant to every output, which is in the bias. Outputs at the border, some of
    whose taps lie in the padding, get less of it: that is taken back there.

    Args:
        conv: The convolution, with the shift's full constant in its bias. Zero padding of at most
            the stride, so that only the outermost outputs see it.
        taps: ``(O, kh, kw)``, what the shift contributes to an output by way of each tap.

    Shapes:
        ``(B, C, H, W)`` to what ``conv`` makes of it.
    """

    def __init__(self, conv: nn.Conv2d, taps: Tensor) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy(conv).__dict__)
        self.register_buffer('taps', taps)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)  # a new tensor, that nobody else has
        height, width = y.shape[2:]
        if torch.compiler.is_compiling() or min(height, width) < 3:
            return y + self.excess((x.shape[2], x.shape[3])).to(y.dtype)
        # All rows but the first and the last have the same excess, and so have the columns.
        down, right = self.stride
        size = (x.shape[2] - (height - 3) * down, x.shape[3] - (width - 3) * right)
        edges = self.excess(size).to(y.dtype)  # 1 O 3 3
        y[:, :, 1:-1, :: width - 1] += edges[:, :, 1:2, ::2]
        y[:, :, :: height - 1, 1:-1] += edges[:, :, ::2, 1:2]
        y[:, :, :: height - 1, :: width - 1] += edges[:, :, ::2, ::2]
        return y

    def prepare_state_dict(self, state: dict[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
        """``state`` with the names of before version 0.2, when the convolution was a part."""
        old = f'{prefix}conv.'
        return {f'{prefix}{k[len(old) :]}' if k.startswith(old) else k: v for k, v in state.items()}

    def excess(self, size: tuple[int, int]) -> Tensor:
        """What the bias has too much, negative: ``(1, O, H', W')`` for inputs of ``size``."""
        axes = zip(size, self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (taps_inside(*axis, self.taps.device) for axis in axes)  # H' kh, W' kw
        taps = self.taps.float()
        inside = rows[None] @ taps @ columns.T[None]  # O H' W'
        return (inside - taps.sum((1, 2), keepdim=True))[None]


@cached_by_size
def taps_inside(
    length: int, kernel: int, stride: int, padding: int, dilation: int, device: torch.device
) -> Tensor:
    """Which taps of which output lie within an axis of the input: 0 or 1, ``(outputs, kernel)``."""
    outputs = (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    tap = torch.arange(outputs)[:, None] * stride - padding + torch.arange(kernel) * dilation
    return ((tap >= 0) & (tap < length)).float().to(device)


def fold_batch_norms(*parts: nn.Sequential) -> None:
    """Fold the batch norms of sequences that run one after another, in place.

    A norm behind a convolution goes into that; one in front of a convolution into that one, also
    from the end of a sequence to the start of the next. So only a sequence whose output goes
    nowhere else may have another behind it here. Norms with neither stay.
    """
    layers: list[nn.Module | None] = [layer for part in parts for layer in part]
    for i, norm in enumerate(layers):
        if i and isinstance(norm, BatchNorm) and isinstance(layers[i - 1], nn.Conv2d):
            layers[i - 1], layers[i] = fold_conv_norm(layers[i - 1], norm), None
    for i, norm in enumerate(layers[:-1]):
        if isinstance(norm, BatchNorm) and isinstance(layers[i + 1], nn.Conv2d):
            layers[i], layers[i + 1] = None, fold_norm_conv(norm, layers[i + 1])
    rest = iter(layers)
    for part in parts:
        kept = [layer for layer in islice(rest, len(part)) if layer is not None]
        del part[:]
        part.extend(kept)
