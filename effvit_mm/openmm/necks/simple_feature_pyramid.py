"""A feature pyramid from the one map of a plain vision transformer.

Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), ECCV 2022,
arXiv 2203.16527, section 3 and figure 2 c: every level is made of the last map alone, by
deconvolution or pooling, without lateral or top-down connections.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS
from .levels import ConvNorm, ExtraLevels, Size, check_channels, level_size, upsampling

# Scale of a level -> how often the map is doubled (positive) or halved (negative).
SCALES = {4: 2, 2: 1, 1: 0, 0.5: -1, 0.25: -2}


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """ViTDet's pyramid: of a map of stride 16 the strides 4, 8, 16, 32 and, by pooling, 64.

    A level is the map scaled, a 1 x 1 and a 3 x 3 convolution, a layer norm behind each. Double
    size is one deconvolution, fourfold two with a norm and a GELU between; half is a max pooling.

    Args:
        in_channels: Channels of the map: the only one of the backbone's ``out_channels``.
        out_channels: Channels of all levels.
        in_stride: The backbone's stride, its patch size.
        scales: Size of each level over the map's, from fine to coarse, of 4, 2, 1, 0.5, 0.25.
            RetinaNet wants (2, 1, 0.5), which leaves stride 4 out; a backbone of stride 8 wants (2,
            1, 0.5, 0.25) for strides 4 to 32.
        num_outs: Levels in all; those beyond ``scales`` halve the one before.
        add_extra_convs: Make those by convolutions, as RetinaNet has it, not by pooling.
        init_cfg: As in OpenMMLab.

    Shapes:
        One map ``(B, in_channels, H, W)`` in a tuple; returns ``num_outs`` maps ``(B, out_channels,
        H', W')``, whose strides are ``out_strides``. H' is the image's height over the stride,
        rounded up, of the image as the backbone has filled it up to whole patches; images padded to
        multiples of 32, as detectors have them, are whole. Given ``size``, (H, W) of the image in
        pixels, the maps are cut to what it covers.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        in_stride: float = 16,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int = 5,
        add_extra_convs: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        scales = tuple(scales)
        descending = sorted(set(scales), reverse=True)
        if not scales or list(scales) != descending or not set(scales) <= set(SCALES):
            allowed = ', '.join(map(str, SCALES))
            raise ValueError(f'scales={scales!r}: allowed are {allowed}, descending')
        if type(in_channels) is not int or in_channels < 4:
            raise ValueError(
                f'in_channels={in_channels!r}: an int of 4 or more is needed, the channels of the '
                'one map that the backbone returns'
            )
        self.in_channels, self.out_channels, self.scales = in_channels, out_channels, scales
        self.levels = nn.ModuleList(self._level(SCALES[scale]) for scale in scales)
        strides = [in_stride / scale for scale in scales]
        self.extra = ExtraLevels(out_channels, strides, num_outs, add_extra_convs)
        self.out_strides = self.extra.strides

    def _level(self, doublings: int) -> nn.Sequential:
        up = max(doublings, 0)
        pools = [nn.MaxPool2d(2, 2, ceil_mode=True) for _ in range(-doublings)]
        return nn.Sequential(
            *upsampling(self.in_channels, up),
            *pools,
            *ConvNorm(self.in_channels >> up, self.out_channels, 1),
            *ConvNorm(self.out_channels, self.out_channels, 3),
        )

    def forward(self, inputs: Sequence[Tensor], size: Size | None = None) -> tuple[Tensor, ...]:
        check_channels(inputs, [self.in_channels], type(self).__name__)
        maps = [level(inputs[0]) for level in self.levels]
        if size is not None:
            sizes = [level_size(size, stride) for stride in self.out_strides]
            maps = [x[..., :h, :w] for x, (h, w) in zip(maps, sizes, strict=False)]
        return self.extra(maps)
