"""A light feature pyramid for mobile detectors: narrow, of depthwise convolutions, both ways.

Yu et al., "PP-PicoDet: A Better Real-Time Object Detector on Mobile Devices", 2021, arXiv
2111.00902, section 3.2 (CSP-PAN): all maps are brought to one narrow width first, a top-down and a
bottom-up path (Liu et al., "Path Aggregation Network for Instance Segmentation", CVPR 2018) fuse
neighbours by cross-stage-partial blocks (Wang et al., "CSPNet", 2019), and kernels are 5 x 5 and
depthwise.

mmdet's ``CSPNeXtPAFPN`` has the depthwise blocks, but keeps the backbone's widths and needs maps of
which each is exactly half the one before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...deploy import deployed_as, fold_batch_norms
from ..registry import MODELS
from .levels import check_channels, level_strides


class ConvBN(nn.Sequential):
    """Convolution that keeps the map or, with stride 2, halves it -> batch norm -> Hardswish.

    Args:
        groups: Channels, for a depthwise convolution.
    """

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        conv = nn.Conv2d(
            in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        super().__init__(conv, nn.BatchNorm2d(channels), nn.Hardswish(inplace=True))


@deployed_as(ConvBN)
def _folded(layer: ConvBN) -> nn.Module:
    fold_batch_norms(layer)
    return layer


def separable(channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Depthwise and 1 x 1 convolution: ``(B, C, H, W) -> (B, C, H / stride, W / stride)``, ceil."""
    return nn.Sequential(
        ConvBN(channels, channels, kernel, stride, groups=channels), ConvBN(channels, channels, 1)
    )


class CSPFusion(nn.Module):
    """Two maps into one: half of the channels go through a separable convolution, half pass by.

    Two of ``(B, C, H, W)`` give one of ``(B, C, H, W)``.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        half = channels // 2
        self.short = ConvBN(2 * channels, half, 1)
        self.main = ConvBN(2 * channels, half, 1)
        self.block = nn.Sequential(ConvBN(half, half, 1), separable(half, kernel))
        self.fuse = ConvBN(2 * half, channels, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = torch.cat([a, b], 1)
        return self.fuse(torch.cat([self.block(self.main(x)), self.short(x)], 1))


@MODELS.register_module()
class CSPPAN(BaseModule):
    """Maps of a backbone into a pyramid of one narrow width, for one-stage mobile detectors.

    Args:
        in_channels: The backbone's ``out_channels``, from fine to coarse.
        out_channels: Channels of all levels; even.
        in_stride: Stride of the finest map; each further one has twice the stride before.
        num_outs: Levels in all; those beyond the backbone's halve the one before.
        kernel: Of the depthwise convolutions; odd.
        init_cfg: As in OpenMMLab.

    Shapes:
        Maps ``(B, C_i, H_i, W_i)``, each half the one before, rounded up, as all our backbones with
        a pyramid of their own return them at any image size; returns ``num_outs`` maps ``(B,
        out_channels, H_i, W_i)``, whose strides are ``out_strides``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 96,
        in_stride: int = 8,
        num_outs: int = 4,
        kernel: int = 5,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(in_channels, Sequence) or len(in_channels) < 2:
            raise ValueError(
                f'in_channels={in_channels!r}: two ints or more are needed, the channels of the '
                'maps that the backbone returns'
            )
        if type(out_channels) is not int or out_channels < 2 or out_channels % 2:
            raise ValueError(f'out_channels={out_channels!r}: an even number is needed')
        if type(kernel) is not int or kernel < 1 or kernel % 2 == 0:
            raise ValueError(f'kernel={kernel!r}: an odd number is needed')
        steps = range(len(in_channels) - 1)
        self.in_channels, self.out_channels = tuple(in_channels), out_channels
        self.narrow = nn.ModuleList(ConvBN(width, out_channels, 1) for width in in_channels)
        self.top_down = nn.ModuleList(CSPFusion(out_channels, kernel) for _ in steps)
        self.halve = nn.ModuleList(separable(out_channels, kernel, stride=2) for _ in steps)
        self.bottom_up = nn.ModuleList(CSPFusion(out_channels, kernel) for _ in steps)
        strides = [in_stride * 2**i for i in range(len(in_channels))]
        self.out_strides = level_strides(strides, num_outs)
        extra = range(num_outs - len(strides))
        self.extra = nn.ModuleList(separable(out_channels, kernel, stride=2) for _ in extra)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        check_channels(inputs, self.in_channels, type(self).__name__)
        maps = [narrow(x) for narrow, x in zip(self.narrow, inputs, strict=True)]
        for i in reversed(range(len(self.top_down))):
            coarser = F.interpolate(maps[i + 1], size=maps[i].shape[2:], mode='nearest')
            maps[i] = self.top_down[i](maps[i], coarser)
        for i, (halve, fuse) in enumerate(zip(self.halve, self.bottom_up, strict=True)):
            maps[i + 1] = fuse(maps[i + 1], halve(maps[i]))
        for halve in self.extra:
            maps.append(halve(maps[-1]))
        return tuple(maps)
