"""Maps and rows of tokens cut into windows, and put together again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def window_partition(x: Tensor, window: Size) -> Tensor:
    """Cut maps into windows of h x w tokens: ``(B, H, W, C) -> (B, windows, h * w, C)``.

    H and W are multiples of h and w.
    """
    b, height, width, c = x.shape
    h, w = window
    x = x.view(b, height // h, h, width // w, w, c).transpose(2, 3)
    return x.reshape(b, -1, h * w, c)


def window_reverse(windows: Tensor, window: Size, grid: Size) -> Tensor:
    """Undo :func:`window_partition`: ``(B, windows, h * w, C) -> (B, H, W, C)``, grid = (H, W)."""
    b, _, _, c = windows.shape
    (height, width), (h, w) = grid, window
    x = windows.view(b, height // h, width // w, h, w, c).transpose(2, 3)
    return x.reshape(b, height, width, c)


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
    (height, width), (h, w) = grid, window_of(grid, size)
    extra, x = x[:, :num_extra_tokens], x[:, num_extra_tokens:].unflatten(1, grid)
    bottom, right = -height % h, -width % w
    if bottom or right:
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
    windows = window_partition(x, (h, w))
    copies = extra[:, None].expand(-1, windows.shape[1], -1, -1)
    return torch.cat((copies, windows), 2).flatten(0, 1)


def windows_to_tokens(windows: Tensor, grid: Size, num_extra_tokens: int, size: int) -> Tensor:
    """Undo :func:`tokens_to_windows`; an extra token is the mean of its copies.

    Shapes:
        windows: ``(B * windows, extra + h * w, C)``; returns ``(B, extra + H * W, C)``.
    """
    (height, width), (h, w) = grid, window_of(grid, size)
    padded = (height + -height % h, width + -width % w)
    count = (padded[0] // h) * (padded[1] // w)
    windows = windows.unflatten(0, (-1, count))
    extra = windows[:, :, :num_extra_tokens].mean(1)
    x = window_reverse(windows[:, :, num_extra_tokens:], (h, w), padded)
    return torch.cat((extra, x[:, :height, :width].flatten(1, 2)), 1)
