"""From which image size on a graph for any size holds."""

from __future__ import annotations

from torch import nn

from ..attention import ShiftedWindowAttention
from ..backbones import Backbone


def least_sides(network: nn.Module) -> list[int | None]:
    """For each backbone in a network the smallest side of images, in pixels, that its graph for any
    size holds for; None where a graph of it holds for one size alone."""
    return [_least_side(m) for m in network.modules() if isinstance(m, Backbone)]


def _least_side(backbone: Backbone) -> int | None:
    if getattr(backbone, 'window_size', None) is not None:
        return None  # its windows are cut to smaller maps
    windows = [m for m in backbone.modules() if isinstance(m, ShiftedWindowAttention)]
    if any(layer.mask_padding for layer in windows):
        return None  # and so are these
    strides = backbone.stage_strides
    if windows:  # maps of the ladder stages must have two windows a side
        return windows[0].window_size * int(strides[len(backbone.stages) - 1]) + 1
    # To torch.export sizes of one are special: all maps must have two cells a side, in whatever way
    # their sizes round.
    built = strides[: max(len(backbone.stages), backbone.out_indices[-1] + 1)]
    cells = (int(n) + 1 if n == int(n) else 2 * (int(n) + 1) for n in built)
    return max(backbone.min_size, *cells)


def one_size_parts(network: nn.Module) -> list[str]:
    """Classes of what is in a network whose graphs hold for one image size alone."""
    return sorted({type(m).__name__ for m in network.modules() if _has_one_size(m)})


def _has_one_size(module: nn.Module) -> bool:
    if isinstance(module, Backbone):
        return _least_side(module) is None
    return getattr(module, 'one_size', False)
