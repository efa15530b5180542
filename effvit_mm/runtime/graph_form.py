"""Deployed modules as runtimes like them best: the same numbers by other operators.

Runtimes fuse a convolution with what follows it at each pixel, and take a product of tokens with
what follows it less well; eager PyTorch is the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..deploy import ShiftedConv2d
from ..deploy.modules import GatheredWindowAttention, PixelLinearGELU, ShiftedConvGELU
from .masked_windows import mask_in_channels

Rules = Mapping[type[nn.Module], Callable[[Any], nn.Module]]
NO_RULES: Rules = MappingProxyType({})
SHARE = 1e-6  # of the largest border value, that a shift may leave unexplained


class ConvOfShifted(nn.Conv2d):
    """Convolution of ``x + shift``, whose zero padding stays zero, with the shift as a step.

    It is fused with the layer in front, where a correction of the border would be a map to be added
    behind, as large as the output and for each size another.

    Args:
        conv: Its weights are taken over, and its bias without the shift's part.
        shift: ``(C,)``.
    """

    shift: Tensor

    def __init__(self, conv: ShiftedConv2d, shift: Tensor) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy(conv).__dict__)
        del self.border
        weight = conv.weight.double().sum((2, 3)).view(conv.groups, -1, conv.weight.shape[1])
        part = (weight @ shift.double().view(conv.groups, -1, 1)).flatten()
        bias: Any = conv.bias  # where there is a shift, there is a bias
        self.bias = nn.Parameter((bias.double() - part).to(bias.dtype), False)
        self.register_buffer('shift', shift.to(conv.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.shift[:, None, None])


def with_shift(conv: ShiftedConv2d) -> nn.Module:
    """A convolution with the shift that its border values come from.

    They are linear in the shift, which is found by least squares; a shift of channels that have no
    weight cannot be, and the convolution stays as it is.
    """
    inner = conv.weight.shape[1]
    values = [conv.border_of(conv.weight[:, c].double()) for c in range(inner)]  # O 4s 4s
    system = torch.stack(values, -1).view(conv.groups, -1, inner)
    border: Any = conv.border
    wanted = border.double().view(conv.groups, -1, 1)
    shift = torch.linalg.lstsq(system, wanted).solution
    unexplained = (system @ shift - wanted).abs().max()
    if not unexplained <= SHARE * wanted.abs().max():
        return conv
    return ConvOfShifted(conv, shift.flatten())


def pixel_convolution(layer: PixelLinearGELU) -> nn.Module:
    """A 1x1 convolution and GELU, of a product of pixels and GELU."""
    conv = nn.Conv2d(1, 1, 1)
    conv.__dict__.update(copy(layer).__dict__)
    return nn.Sequential(conv, nn.GELU())


def shifted_and_gelu(layer: ShiftedConvGELU) -> nn.Module:
    """A convolution with its shift, and GELU."""
    conv = ShiftedConv2d.__new__(ShiftedConv2d)
    nn.Module.__init__(conv)
    conv.__dict__.update(copy(layer).__dict__)
    return nn.Sequential(with_shift(conv), nn.GELU())


RULES: Rules = {
    ShiftedConv2d: with_shift,
    ShiftedConvGELU: shifted_and_gelu,
    PixelLinearGELU: pixel_convolution,
    GatheredWindowAttention: mask_in_channels,
}


def graph_form(network: nn.Module, further: Rules) -> nn.Module:
    """A copy of a deployed network to make graphs of; it shares the weights that stay.

    Args:
        network: Deployed.
        further: Rules of a runtime of its own: classes, and what makes another module of one.
    """
    rules = {**RULES, **further}
    memo = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    network = deepcopy(network, memo)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in rules:
                setattr(parent, name, rules[type(child)](child))
    return network.eval()
