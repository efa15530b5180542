"""Maps and rows of tokens cut into windows, and put together again."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from .caching import cached_by_size
from .eager import runs_eagerly
from .sizes import is_open, surely_zero

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


def pad_to_windows(x: Tensor, window: Size) -> Tensor:
    """Fill maps up to whole windows, with zeros at the right and bottom: ``(B, H, W, C)``."""
    # Not `-length % side`: of a symbol this leaves what is seen to be a multiple of the side.
    bottom, right = (
        (length + side - 1) // side * side - length
        for length, side in zip(x.shape[1:3], window, strict=True)
    )
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


def split_heads(x: Tensor, window: Size, shift: int, count: int, heads: int) -> Tensor:
    """Roll maps, cut them into windows, take heads apart.

    Args:
        x: ``(B, H, W, count * heads * d)``, H and W multiples of the window's sides. Along the
            channels ``count`` tensors are joined: queries, keys, values.
        window: (h, w).
        shift: Roll along both axes, negative to the top left.
        count, heads: See ``x`` and the result.

    Returns:
        ``(count, B, windows * heads, h * w, d)``.
    """
    if not runs_eagerly(x):
        return _split_heads(x, window, shift, count, heads)
    rows = x.reshape(-1, x.shape[3] // (count * heads))
    order = _order(
        _split_heads, (*x.shape[:3], count * heads), x.device, window, shift, count, heads
    )
    windows = x.shape[1] * x.shape[2] // (window[0] * window[1])
    shape = (count, x.shape[0], windows * heads, window[0] * window[1], rows.shape[1])
    return rows.index_select(0, order).view(shape)


def join_heads(x: Tensor, window: Size, shift: int, grid: Size, heads: int) -> Tensor:
    """Undo :func:`split_heads` of one tensor: ``(B, windows * heads, h * w, d)`` to ``(B, H, W,
    heads * d)``, grid = (H, W). Windows may stand with the images: ``(B * windows, heads, ...)``.
    """
    if not runs_eagerly(x):
        return _join_heads(x, window, shift, grid, heads)
    join = _join_heads
    if not x.is_contiguous():  # some releases' fused attention leaves heads behind tokens
        x, join = x.transpose(1, 2), _join_rows
    order = _order(join, (*x.shape[:3], 1), x.device, window, shift, grid, heads)
    rows = x.reshape(-1, x.shape[3]).index_select(0, order)
    return rows.view(-1, *grid, heads * x.shape[3])


def _split_heads(x: Tensor, window: Size, shift: int, count: int, heads: int) -> Tensor:
    x = window_partition(x.roll((shift, shift), (1, 2)) if shift else x, window)
    b, windows, length, _ = x.shape
    x = x.view(b, windows, length, count, heads, -1).permute(3, 0, 1, 4, 2, 5)
    return x.reshape(count, b, windows * heads, length, -1)


def _join_heads(x: Tensor, window: Size, shift: int, grid: Size, heads: int) -> Tensor:
    length, width = x.shape[2:]
    windows = (grid[0] // window[0]) * (grid[1] // window[1])
    x = x.reshape(-1, windows, heads, length, width).transpose(2, 3)
    x = window_reverse(x.reshape(-1, windows, length, heads * width), window, grid)
    return x.roll((-shift, -shift), (1, 2)) if shift else x


def _join_rows(x: Tensor, *arguments: object) -> Tensor:
    return _join_heads(x.transpose(1, 2), *arguments)


@cached_by_size
def _order(
    step: Callable[..., Tensor], shape: tuple[int, ...], device: torch.device, *arguments: object
) -> Tensor:
    """Which row of its input stands where in the result of a ``step`` that only moves rows.

    Fetching the rows in this order is one call, and takes a third of the time of the step's two or
    three strided copies.

    Args:
        shape: The input's, rows being one element wide.
    """
    rows = torch.arange(prod(shape)).view(shape)
    return step(rows, *arguments).flatten().to(device, torch.int32)


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
