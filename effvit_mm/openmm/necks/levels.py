"""Levels of a feature pyramid: how a map is resized, normed and projected."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each cell: ``(B, C, H, W) -> (B, C, H, W)``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNorm(nn.Sequential):
    """Convolution that keeps or halves the map (sizes rounded up) -> layer norm."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, LayerNorm2d(channels))


def upsampling(channels: int, times: int) -> nn.Sequential:
    """Double a map ``times`` times, 0 to 2, halving its channels each time, by deconvolutions.

    ``(B, C, H, W) -> (B, C / 2^n, 2^n H, 2^n W)``; a norm and a GELU between two.
    """
    layers: list[nn.Module] = []
    for i in range(times):
        if i:
            layers += [LayerNorm2d(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, 2))
        channels //= 2
    return nn.Sequential(*layers)


class ExtraLevels(nn.Module):
    """Coarser levels on top of a pyramid, each half the one before, sizes rounded up.

    Args:
        channels: Of the pyramid.
        strides: Of the pyramid's levels; the attribute ``strides`` has the added ones too.
        num_outs: Levels in all.
        convs: By 3 x 3 convolutions, a ReLU between two, as RetinaNet has it (Lin et al., "Focal
            Loss for Dense Object Detection", 2017); otherwise every second cell is taken, a max
            pooling of one cell, as Mask R-CNN has it.
    """

    def __init__(self, channels: int, strides: Sequence[float], num_outs: int, convs: bool) -> None:
        super().__init__()
        self.strides = level_strides(strides, num_outs)
        self.count = count = num_outs - len(strides)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(count if convs else 0)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        maps = list(maps)
        for i in range(self.count):
            x = maps[-1]
            if self.convs:
                maps.append(self.convs[i](x.relu() if i else x))
            else:
                maps.append(F.max_pool2d(x, 1, 2))
        return tuple(maps)


def level_strides(strides: Sequence[float], num_outs: int) -> tuple[float, ...]:
    """``strides`` and those of extra levels, each twice the one before; ints where they are.

    Raises:
        ValueError: ``num_outs`` is no int, or less than there are strides.
    """
    if type(num_outs) is not int or num_outs < len(strides):
        raise ValueError(f'num_outs={num_outs!r}: an int of {len(strides)} or more is needed')
    every = [*strides, *(strides[-1] * 2 ** (i + 1) for i in range(num_outs - len(strides)))]
    return tuple(int(stride) if stride == int(stride) else stride for stride in every)


def level_size(size: Size, stride: float) -> Size:
    """(H, W) of the map of a stride for an image of ``size`` pixels, rounded up."""
    height, width = (-int(-side // stride) for side in size)
    return height, width


def check_channels(maps: Sequence[Tensor], channels: Sequence[int], name: str) -> None:
    """Raise where the backbone's ``maps`` are not those that the neck was built for."""
    given = [x.shape[1] for x in maps]
    if given != list(channels):
        raise ValueError(
            f'{name} was built for maps of {list(channels)} channels and got {given}: set its '
            "in_channels to the backbone's out_channels"
        )
