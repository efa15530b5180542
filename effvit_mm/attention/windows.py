"""Maps and rows of tokens cut into windows, and put together again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .mechanism import Size
from .sizes import is_open, round_up, surely_zero


def window_partition(x: Tensor, window: Size) -> Tensor:
    """Cut maps into windows of h x w tokens: ``(B, H, W, C) -> (B, windows, h * w, C)``.

    H and W are multiples of h and w.
    """
    height, width, c = x.shape[1:]
    h, w = window
    rows, columns = height // h, width // w
    x = x.view(-1, rows, h, columns, w, c).transpose(2, 3)
    return x.reshape(-1, rows * columns, h * w, c)


def window_reverse(windows: Tensor, window: Size, grid: Size) -> Tensor:
    """Undo :func:`window_partition`: ``(B, windows, h * w, C) -> (B, H, W, C)``, grid = (H, W)."""
    c = windows.shape[-1]
    (height, width), (h, w) = grid, window
    x = windows.view(-1, height // h, width // w, h, w, c).transpose(2, 3)
    return x.reshape(-1, height, width, c)


def whole_windows(grid: Size, window: Size) -> Size:
    """(H, W) of a map that is filled up to whole windows."""
    height, width = (round_up(n, side) for n, side in zip(grid, window, strict=True))
    return height, width


def pad_to_windows(x: Tensor, window: Size) -> Tensor:
    """Fill maps up to whole windows, with zeros at the right and bottom: ``(B, H, W, C)``."""
    height, width = whole_windows((x.shape[1], x.shape[2]), window)
    bottom, right = height - x.shape[1], width - x.shape[2]
    return x if surely_zero(bottom, right) else F.pad(x, (0, 0, 0, right, 0, bottom))


def crop(x: Tensor, grid: Size) -> Tensor:
    """The top left (H, W) of maps ``(B, H', W', C)``."""
    height, width = grid
    if not is_open(height, width):
        return x[:, :height, :width]
    # A slice that may be the whole has strides that nobody knows: torch.export would ask.
    for axis, length in ((1, height), (2, width)):
        x = x.index_select(axis, torch.arange(length, device=x.device))
    return x


def window_of(grid: Size, size: int) -> Size:
    """(h, w) of the windows of a map: ``size`` squared, or less where the map is smaller."""
    height, width = grid
    return min(size, height), min(size, width)


def tokens_to_windows(x: Tensor, grid: Size, num_extra_tokens: int, size: int) -> Tensor:
    """Rows of tokens as one row for each window, for attention that stays within windows.

    As in ViTDet (Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection",
    2022) windows do not overlap, the map is filled up with zeros at the right and bottom, and that
    padding is not masked: it takes part as keys, whatever the mechanism. Unlike there a window is
    never larger than the map, so that one window is the same as none. ViTDet has no class token;
    here each window gets a copy of the extra tokens.

    Args:
        x: ``(B, extra + H * W, C)``.
        grid: (H, W) of the map.
        num_extra_tokens: Tokens in front of the map's.
        size: Side of a window, in tokens.

    Returns:
        ``(B * windows, extra + h * w, C)``, (h, w) being :func:`window_of` the map.
    """
    extra, x = x[:, :num_extra_tokens], x[:, num_extra_tokens:].unflatten(1, grid)
    window = window_of(grid, size)
    windows = window_partition(pad_to_windows(x, window), window)
    copies = extra[:, None].expand(-1, windows.shape[1], -1, -1)
    return torch.cat((copies, windows), 2).flatten(0, 1)


def windows_to_tokens(windows: Tensor, grid: Size, num_extra_tokens: int, size: int) -> Tensor:
    """Undo :func:`tokens_to_windows`; an extra token is the mean of its copies.

    Shapes:
        windows: ``(B * windows, extra + h * w, C)``; returns ``(B, extra + H * W, C)``.
    """
    window = window_of(grid, size)
    padded = whole_windows(grid, window)
    count = (padded[0] // window[0]) * (padded[1] // window[1])
    windows = windows.unflatten(0, (-1, count))
    extra = windows[:, :, :num_extra_tokens].mean(1)
    x = window_reverse(windows[:, :, num_extra_tokens:], window, padded)
    return torch.cat((extra, crop(x, grid).flatten(1, 2)), 1)
