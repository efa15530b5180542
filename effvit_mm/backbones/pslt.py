"""PSLT: inverted residuals, then ladder self-attention with progressive shift.

Wu et al., "PSLT: A Light-weight Vision Transformer with Ladder Self-Attention and Progressive
Shift", TPAMI 2023, arXiv 2304.03481. Throughout the network an activation stands before its batch
norm, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..attention import PixelAdaptiveFusion, ShiftedWindowAttention
from ..attention.windows import pad_to_windows
from .base import Backbone, drop_path_rates, init_linear_layers
from .stochastic_depth import StochasticDepth


def conv_gelu_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution -> exact GELU -> batch norm, in this order."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias
    )
    return nn.Sequential(conv, nn.GELU(), nn.BatchNorm2d(out_channels))


class SqueezeExcitation(nn.Module):
    """Gate the channels of ``x: (B, C, H, W)`` by an MLP of their means."""

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]

    def gate(self, mean: Tensor) -> Tensor:
        """Factors of the channels, ``(B, C)``, from their means."""
        return self.fc2(self.fc1(mean).relu()).sigmoid()


class InvertedResidual(nn.Module):
    """MobileNetV2's block with squeeze-excitation behind the last norm: ``(B, C, H, W)`` maps."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expansion: int = 4
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand = conv_gelu_norm(in_channels, width, 1)
        self.depthwise = conv_gelu_norm(width, width, 3, stride, groups=width)
        self.project = nn.Sequential(
            nn.Conv2d(width, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.se = SqueezeExcitation(out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(self.project(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class ConvFFN(nn.Module):
    """A feed-forward network with a depthwise convolution between its two projections.

    ``x: (B, H, W, C)``; the hidden width is C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = conv_gelu_norm(dim, dim, 1, bias=True)
        self.depthwise = conv_gelu_norm(dim, dim, 3, groups=dim, bias=True)
        self.project = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.BatchNorm2d(dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)  # B C H W in channels-last memory: a view
        return self.project(self.depthwise(self.expand(x))).permute(0, 2, 3, 1)


class LadderBranch(nn.Module):
    """Window attention and feed-forward network on one slice of the channels."""

    def __init__(self, dim: int, drop_path: float, **attention: Any) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = ShiftedWindowAttention(dim, **attention)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = ConvFFN(dim)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor, value: Tensor | None) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), value))
        return x + self.drop_path(self.ffn(self.norm2(x)))


class LadderBlock(nn.Module):
    """Branches in a row, each taking the output of the one before as its values; then fusion.

    ``x: (B, H, W, C)``, split evenly among the branches. There is no residual around the block.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        shifts: Sequence[int],
        drop_path: float,
        **attention: Any,
    ) -> None:
        super().__init__()
        if dim % len(shifts):
            raise ValueError(f'{len(shifts)} branches (shifts={shifts}) do not divide width {dim}')
        self.branches = nn.ModuleList(
            LadderBranch(
                dim // len(shifts),
                drop_path,
                num_heads=num_heads,
                shift=shift,
                takes_value=i > 0,
                **attention,
            )
            for i, shift in enumerate(shifts)
        )
        self.fusion = PixelAdaptiveFusion(dim)

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for branch, part in zip(self.branches, x.chunk(len(self.branches), -1), strict=True):
            outputs.append(branch(part, outputs[-1] if outputs else None))
        return self.fusion(torch.cat(outputs, -1))


class PatchMerging(nn.Module):
    """Join 2 x 2 tokens and project them: ``(B, H, W, C) -> (B, ceil(H/2), ceil(W/2), 2C)``.

    Odd maps are filled up with zeros at the right and bottom.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_windows(x, (2, 2))
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # B H/2 2 W/2 2 C
        x = x.permute(0, 1, 3, 4, 2, 5).flatten(3)  # joined columns first, as published
        return self.reduction(self.norm(x))


class PSLT(Backbone):
    """Progressive Shift Ladder Transformer.

    Args:
        arch: ``'tiny'``, ``'base'``, ``'large'``, or a dict with the keys of the table:
            ``embed_dims`` (width of the stem), ``depths`` (blocks of the four stages) and
            ``num_heads`` (of the two ladder stages).
        out_indices: Stages to return, of 0..3: strides 4, 8, 16, 32; maps ``(B, C, H, W)`` with C =
            2, 4, 8, 16 times ``embed_dims``.
        drop_path_rate: Stochastic depth of the last ladder block; rises linearly from 0.
        window_size: Side of the attention windows.
        shifts: Roll of each branch; their number is the number of branches.
        final_norm: Norm the last stage's map, as classification needs. Detectors take the raw map.
        mask_padding: Hide the padding of the window grid from attention. Published weights were
            trained without it.
        attention: The attention within windows: ``dict(type='SoftmaxAttention')``, as published, or
            another mechanism with its options.
        frozen_stages, norm_eval, with_cp: See :class:`Backbone`.

    Raises:
        ValueError: An argument that is out of range; at call time, images that are too small.
    """

    arch_settings = {
        'tiny': {'embed_dims': 24, 'depths': (3, 3, 10, 3), 'num_heads': (4, 8)},
        'base': {'embed_dims': 36, 'depths': (3, 3, 10, 3), 'num_heads': (4, 8)},
        'large': {'embed_dims': 48, 'depths': (3, 3, 10, 3), 'num_heads': (4, 8)},
    }

    def __init__(
        self,
        arch: str | Mapping = 'base',
        out_indices: int | Sequence[int] = -1,
        drop_path_rate: float = 0.2,
        window_size: int = 7,
        shifts: Sequence[int] = (0, -3, 3),
        final_norm: bool = True,
        mask_padding: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        attention: Mapping | None = None,
    ) -> None:
        super().__init__(arch, out_indices, frozen_stages, norm_eval, with_cp)
        settings = self.settings(arch)
        width, depths, heads = (settings[key] for key in ('embed_dims', 'depths', 'num_heads'))
        channels = [width * 2**i for i in range(1, 5)]
        self.stem = nn.Sequential(
            conv_gelu_norm(3, width // 2, 3, stride=2),
            conv_gelu_norm(width // 2, width, 3),
            conv_gelu_norm(width, width, 3),
        )
        rates = drop_path_rates(drop_path_rate, depths[2] + depths[3])

        def inverted(i: int) -> list[nn.Module]:
            first = InvertedResidual(width * 2**i, channels[i], 2)
            rest = [InvertedResidual(channels[i], channels[i], 1) for _ in range(depths[i] - 1)]
            return [first, *rest]

        def ladders(i: int, rates: list[float]) -> list[nn.Module]:
            shared = (channels[i], heads[i - 2], tuple(shifts))
            return [LadderBlock(*shared, rate, **attend) for rate in rates]

        attend: dict[str, Any] = {
            'window_size': window_size,
            'mask_padding': mask_padding,
            'attention': attention,
        }
        down = InvertedResidual(channels[1], channels[2], 2)
        builders = [
            lambda: inverted(0),
            lambda: inverted(1),
            lambda: [down, *ladders(2, rates[: depths[2]])],
            lambda: [PatchMerging(channels[2]), *ladders(3, rates[depths[2] :])],
        ]
        built = self.out_indices[-1] + 1
        self.stages = nn.ModuleList(nn.Sequential(*build()) for build in builders[:built])
        if final_norm and built == 4:
            self.norm = nn.LayerNorm(channels[3])
        init_linear_layers(self)
        self.finish(channels, strides=(4, 8, 16, 32))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` to the maps of ``out_indices``."""
        self.check_input(x)
        # Convolutions run in channels-last memory, so that the change to tokens is a view.
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        maps = []
        for i, stage in enumerate(self.stages):
            for block in stage:
                if isinstance(block, LadderBlock | PatchMerging):
                    x = self.run_block(block, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
                else:
                    x = self.run_block(block, x)
            if i in self.out_indices:
                maps.append(self.norm_behind(i)(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return tuple(maps)
