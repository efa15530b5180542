"""A feature pyramid from the two maps of CrossViT, whose cells do not fit each other.

Chen, Fan, Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image
Classification", ICCV 2021, has no dense tasks: the pyramid is ours. The top-down path is that of
Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS
from .levels import ConvNorm, ExtraLevels, Size, check_channels, level_size, upsampling

STRIDES = (4, 8, 16, 32)


@MODELS.register_module()
class CrossViTPyramid(BaseModule):
    """Strides 4, 8, 16, 32 and more from CrossViT in its mode ``'dense'``.

    P4 is the map of the large branch, P5 that map halved by a convolution; P3 is the map of the
    small branch, stride 11.2, resized to stride 8, and P2 that doubled by a deconvolution. The
    small branch is narrow and shallow, so a top-down path brings it what the large one knows.

    Args:
        in_channels: Channels of the small and the large branch: the backbone's ``out_channels``.
        out_channels: Channels of all levels.
        start_level: 0 begins with stride 4, 1 with stride 8, which is what RetinaNet wants.
        num_outs: Levels in all; those beyond stride 32 halve the one before.
        add_extra_convs: Make those by convolutions, as RetinaNet has it, not by pooling.
        init_cfg: As in OpenMMLab.

    Shapes:
        Two maps ``(B, C_S, h, w)`` and ``(B, C_L, H / 16, W / 16)``; returns ``num_outs`` maps
        ``(B, out_channels, H', W')``, whose strides are ``out_strides``: exactly the image's sides
        over them, if the image was padded to a multiple of 16, since then the large branch's map
        tells its size. For other images the backbone's cells are not quite 16 pixels and neither
        are ours the strides; given ``size``, (H, W) of the image in pixels, the maps are resized to
        what the strides declare, rounded up.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        start_level: int = 0,
        num_outs: int = 5,
        add_extra_convs: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(in_channels, Sequence) or len(in_channels) != 2:
            raise ValueError(
                f'in_channels={in_channels!r}: two ints are needed, the channels of the small and '
                "the large branch: CrossViT's out_channels with out_indices=(0, 1)"
            )
        if start_level not in (0, 1):
            raise ValueError(f'start_level={start_level!r}: allowed are 0 (stride 4) and 1 (8)')
        self.in_channels, self.out_channels = tuple(in_channels), out_channels
        self.strides = STRIDES[start_level:]
        small, large = in_channels
        self.large = ConvNorm(large, out_channels, 1)
        self.small = ConvNorm(small, out_channels, 1)
        self.coarse = ConvNorm(large, out_channels, 3, stride=2)
        if start_level == 0:
            self.fine = upsampling(small, 1).append(ConvNorm(small // 2, out_channels, 1))
        self.smooth = nn.ModuleList(ConvNorm(out_channels, out_channels, 3) for _ in self.strides)
        self.extra = ExtraLevels(out_channels, self.strides, num_outs, add_extra_convs)
        self.out_strides = self.extra.strides

    def forward(self, inputs: Sequence[Tensor], size: Size | None = None) -> tuple[Tensor, ...]:
        check_channels(inputs, self.in_channels, type(self).__name__)
        small, large = inputs
        if size is None:
            size = (16 * large.shape[2], 16 * large.shape[3])
        sizes = {stride: level_size(size, stride) for stride in STRIDES}
        small, large = _resize(small, sizes[8]), _resize(large, sizes[16])
        levels = [self.small(small), self.large(large), self.coarse(large)]
        if len(self.strides) == 4:
            levels.insert(0, _resize(self.fine(small), sizes[4]))
        for i in range(len(levels) - 2, -1, -1):
            coarser = F.interpolate(levels[i + 1], size=levels[i].shape[2:], mode='nearest')
            levels[i] = levels[i] + coarser
        return self.extra([conv(x) for conv, x in zip(self.smooth, levels, strict=True)])


def _resize(x: Tensor, size: Size) -> Tensor:
    """A map ``(B, C, h, w)`` as ``(B, C, H, W)``, bilinear, where its size is another."""
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)
