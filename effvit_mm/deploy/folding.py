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
from ..attention.sizes import is_recorded
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
    whose taps lie in the padding, get less of it: that is taken back there. They are the outermost
    ones alone, as zero padding is at most the stride.

    Args:
        conv: The convolution, with the shift's full constant in its bias.
        taps: ``(O, kh, kw)``, what the shift contributes to an output by way of each tap.

    Shapes:
        ``(B, C, H, W)`` to what ``conv`` makes of it. ``border``, ``(O, 4 sh, 4 sw)`` for strides
        sh and sw, is what the bias has too much, negative, at each of :func:`border_places`.
    """

    def __init__(self, conv: nn.Conv2d, taps: Tensor) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy(conv).__dict__)
        self.register_buffer('border', self.border_of(taps))

    def border_of(self, taps: Tensor) -> Tensor:
        """The buffer ``border`` for taps ``(O, kh, kw)``."""
        geometry = zip(self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (_taps_inside(*axis).to(taps.device) for axis in geometry)  # 4s k
        exact = taps.double()
        inside = rows @ exact @ columns.T
        return (inside - exact.sum((1, 2), keepdim=True)).to(taps.dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)  # a new tensor, that nobody else has
        lengths, outputs = x.shape[2:], y.shape[2:]
        left = [self._left_over(length, axis) for axis, length in enumerate(lengths)]
        if is_recorded() or min(outputs) < 3:
            rows, columns = (
                border_places(n, over, y.device) for n, over in zip(outputs, left, strict=True)
            )
            return y + self.border.index_select(1, rows).index_select(2, columns)
        border = self.border[:, 4 * left[0] : 4 * left[0] + 4, 4 * left[1] : 4 * left[1] + 4]
        down, right = outputs[0] - 1, outputs[1] - 1
        y[:, :, 1:-1, ::right] += border[:, :1, 1:3]
        y[:, :, ::down, 1:-1] += border[:, 1:3, :1]
        y[:, :, ::down, ::right] += border[:, 1:3, 1:3]
        return y

    def _left_over(self, length: int, axis: int) -> int:
        """Inputs of an axis, padding included, behind the last output's taps."""
        reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        free, stride = length + 2 * self.padding[axis] - reach, self.stride[axis]
        return free - free // stride * stride  # not %, which graphs for any size cannot hold

    def prepare_state_dict(self, state: dict[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
        """``state``, also one of version 0.1, which had the convolution as a part, and taps."""
        old, taps = f'{prefix}conv.', f'{prefix}taps'
        state = {
            f'{prefix}{k[len(old) :]}' if k.startswith(old) else k: v for k, v in state.items()
        }
        if taps in state:
            state[f'{prefix}border'] = self.border_of(state.pop(taps))
        return state


def _taps_inside(kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Which taps of an output lie within the input, on one axis: 0 or 1, ``(4 stride, kernel)``.

    Rows as :func:`border_places` counts them.
    """
    tap = torch.arange(kernel) * dilation
    front, whole = tap >= padding, torch.ones(kernel, dtype=torch.bool)
    backs = [tap < tap[-1] + 1 - padding + over for over in range(stride)]
    return torch.stack([t for back in backs for t in (whole, front, back, front & back)]).double()


@cached_by_size
def border_places(outputs: int, left_over: int, device: torch.device) -> Tensor:
    """Where an axis's outputs stand in a border table: ``(outputs,)``.

    Four places for each number of inputs that are left over: an output in the middle, the first,
    the last, and one that is both.
    """
    place = torch.arange(outputs)
    return (4 * left_over + (place == 0).long() + 2 * (place == outputs - 1).long()).to(device)


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
