"""Ladder self-attention with progressive shift.

Wu et al., "PSLT: A Light-weight Vision Transformer with Ladder Self-Attention and Progressive
Shift", TPAMI 2023, arXiv 2304.03481. The channels are split among branches; each branch
attends within windows that are shifted differently, and hands its output to the next branch, which
takes it as its values. A branch so saves its value projection and sees past its own windows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .caching import cached_by_size
from .mechanism import Layout, Size, build_mechanism, has
from .sizes import is_open
from .windows import crop, pad_to_windows, whole_windows, window_partition, window_reverse

# Added to the logits of pairs that must not see each other. Finite: a window of nothing but padding
# stays free of NaN. The published -100 leaves weights of e^-100, which float32 holds as a denormal
# number: products with it take the processor a hundred times as long. e^-1000 is zero.
MASKED = -1000.0
Cut = tuple[Size, Size, int]  # how maps are cut: their grid, window and shift


@cached_by_size
def relative_position_index(size: int, window: Size, device: torch.device) -> Tensor:
    """Row of the bias table for each pair of positions: ``(L, L)``, L = h * w of ``window``.

    The table has a row for each offset within a square of ``size`` tokens; a window that is cut to
    a smaller map uses a part of them.
    """
    axes = (torch.arange(length) for length in window)
    position = torch.stack(torch.meshgrid(*axes, indexing='ij')).flatten(1)  # 2, L
    offset = position[:, :, None] - position[:, None, :] + size - 1
    return (offset[0] * (2 * size - 1) + offset[1]).to(device)


def rolled_parts(grid: Size, window: Size, shift: int) -> Tensor:
    """Which part of a rolled map each token of each window is from: ``(windows, L)``, 0 to 3.

    Positions that went round the end of an axis were no neighbours of those that did not: tokens
    see each other only within a part. ``grid``, ``window``, ``shift``: of :func:`window_mask`.
    """
    padded = whole_windows(grid, window)
    sources = [torch.arange(length) - shift for length in padded]
    rows, columns = ((s < 0) | (s >= n) for s, n in zip(sources, padded, strict=True))
    label = rows[:, None] * 2 + columns.long()
    return window_partition(label[None, :, :, None], window)[0, :, :, 0]


@cached_by_size
def window_mask(
    grid: Size,
    window: Size,
    shift: int,
    mask_padding: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Logit offsets of the windows of a map: ``(windows, 1, L, L)``, L = h * w of ``window``.

    The map, ``grid`` tokens, is zero-padded to a multiple of ``window`` at the right and bottom,
    then rolled by ``shift`` along both axes. Pairs that the roll brought together are masked; keys
    that are padding only with ``mask_padding``.
    """
    (height, width), padded = grid, whole_windows(grid, window)
    label = rolled_parts(grid, window, shift)
    hidden = label[:, :, None] != label[:, None, :]
    if mask_padding:
        padding = torch.ones(padded, dtype=torch.bool)
        padding[:height, :width] = False
        padding = padding.roll((shift, shift), (0, 1))
        hidden = hidden | window_partition(padding[None, :, :, None], window)[0, :, None, :, 0]
    mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, MASKED)
    return mask[:, None].to(device)


class ShiftedWindowAttention(nn.Module):
    """One branch of ladder self-attention: attention within shifted windows.

    The first branch of a ladder projects its own values. A later one takes the output of the branch
    before as its values, as it is, and adds its own input to the result (the ladder's inner
    residual).

    The map is rolled, and what the roll brings together is masked. A mechanism that takes no mask
    gets windows at the same places of a map that is padded with zeros at the top and left instead.

    Args:
        dim: Channels of the branch.
        num_heads: Heads; must divide ``dim``.
        window_size: Side of a window, in tokens.
        shift: Shift of the map along both axes before it is cut into windows; negative is to the
            top left. Off for maps no larger than one window, as published.
        takes_value: The values come from the branch before.
        mask_padding: Hide the padding that fills up the window grid. A map smaller than a window
            is then not padded at all, which costs less. Published weights were trained without it.
        attention: Config of the mechanism, see :func:`build_mechanism`.

    Shapes:
        x, value: ``(B, H, W, dim)``, any H and W; returns ``(B, H, W, dim)``.

    Raises:
        ValueError: An argument that is out of range, or a mechanism that cannot serve in windows.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int = 7,
        shift: int = 0,
        takes_value: bool = False,
        mask_padding: bool = False,
        attention: Mapping | None = None,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'num_heads={num_heads} does not divide the branch width {dim}')
        if abs(shift) >= window_size:
            raise ValueError(f'shift={shift} must be smaller than window_size={window_size}')
        self.dim, self.num_heads = dim, num_heads
        self.window_size, self.shift = window_size, shift
        self.takes_value, self.mask_padding = takes_value, mask_padding
        if takes_value:
            self.qk = nn.Linear(dim, 2 * dim)
        else:
            self.qkv = nn.Linear(dim, 3 * dim)
        self.mechanism = build_mechanism(attention, num_heads, dim // num_heads, dim // num_heads)
        if mask_padding and not has(self.mechanism, 'takes_mask'):
            name = type(self.mechanism).__name__
            raise ValueError(f'mask_padding=True: attention type {name!r} takes no mask')
        if has(self.mechanism, 'takes_bias'):
            table = torch.zeros((2 * window_size - 1) ** 2, num_heads)
            self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, value: Tensor | None = None) -> Tensor:
        if (value is not None) != self.takes_value:
            raise ValueError('a value must be given exactly where the branch takes one')
        grid = height, width = x.shape[1], x.shape[2]
        size = self.window_size
        # Graphs for any size are for maps that are larger than a window.
        shift = self.shift if is_open(*grid) or min(grid) > size else 0
        window = (min(size, height), min(size, width)) if self.mask_padding else (size, size)
        t = self._cut(x, window, shift)  # B*windows L C
        if value is not None:
            q, k = self._split_heads(self.qk(t), 2)
            (v,) = self._split_heads(self._cut(value, window, shift).to(q.dtype), 1)
        else:
            q, k, v = self._split_heads(self.qkv(t), 3)
        out = self.attend(q, k, v, (grid, window, shift), x.shape[0])
        out = self.proj(out.transpose(1, 2).flatten(2))
        return self._paste(out + t if self.takes_value else out, grid, window, shift)

    def _cut(self, x: Tensor, window: Size, shift: int) -> Tensor:
        """Shifted windows of a map: ``(B, H, W, C) -> (B * windows, L, C)``."""
        rolls = has(self.mechanism, 'takes_mask')
        if shift and not rolls:
            x = F.pad(x, (0, 0, shift % window[1], 0, shift % window[0], 0))
        x = pad_to_windows(x, window)
        if shift and rolls:
            x = x.roll((shift, shift), (1, 2))
        return window_partition(x, window).flatten(0, 1)

    def _paste(self, windows: Tensor, grid: Size, window: Size, shift: int) -> Tensor:
        """Undo :meth:`_cut`: ``(B * windows, L, C) -> (B, H, W, C)``."""
        if has(self.mechanism, 'takes_mask'):
            x = window_reverse(windows, window, whole_windows(grid, window))
            return crop(x.roll((-shift, -shift), (1, 2)) if shift else x, grid)
        top, left = shift % window[0], shift % window[1]
        x = window_reverse(windows, window, whole_windows((top + grid[0], left + grid[1]), window))
        return crop(x[:, top:, left:], grid)

    def _split_heads(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        """``(B * windows, L, count * C)`` to so many ``(B * windows, heads, L, C / heads)``."""
        return x.unflatten(-1, (count, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cut: Cut, batch: int) -> Tensor:
        """Attention within windows, ``(batch * windows, heads, L, C / heads)`` each, cut so."""
        return self.mechanism(q, k, v, Layout(cut[1], cut[1]), self._bias(*cut, batch))

    def _bias(self, grid: Size, window: Size, shift: int, batch: int) -> Tensor | None:
        """Relative positions and mask: ``(B * windows or 1, heads, L, L)``; None for a mechanism
        that takes none."""
        if not has(self.mechanism, 'takes_bias'):
            return None
        bias = self.relative_positions(window)[None]
        hides = self.mask_padding and whole_windows(grid, window) != grid
        if not has(self.mechanism, 'takes_mask') or not (shift or hides):
            return bias
        mask = window_mask(grid, window, shift, self.mask_padding, bias.device, bias.dtype)
        return (bias + mask).repeat(batch, 1, 1, 1)

    def relative_positions(self, window: Size) -> Tensor:
        """The bias within a window of h x w tokens: ``(heads, L, L)``, L = h * w."""
        table = self.relative_position_bias_table
        index = relative_position_index(self.window_size, window, table.device)
        return table[index].permute(2, 0, 1)


class PixelAdaptiveFusion(nn.Module):
    """Weigh the channels of the joined branches at each pixel, then mix them.

    A squeeze-excitation without the squeeze: the gate is a small MLP of the pixel alone. The gated
    map is the residual.

    Shapes:
        x: ``(..., dim)``; returns the same.
    """

    def __init__(self, dim: int, reduction: int = 2) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim // reduction)
        self.fc2 = nn.Linear(dim // reduction, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.fc2(self.fc1(x).relu()).sigmoid()
        return x + self.proj(x)
