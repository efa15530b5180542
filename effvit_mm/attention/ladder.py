"""Ladder self-attention with progressive shift.

Wu et al., "PSLT: A Light-weight Vision Transformer with Ladder Self-Attention and Progressive
Shift", TPAMI 2023, arXiv 2304.03481. The channels are split among branches; each branch
attends within windows that are shifted differently, and hands its output to the next branch, which
takes it as its values. A branch so saves its value projection and sees past its own windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .caching import SizeCache, cached_by_size
from .eager import add, linear, runs_eagerly
from .sizes import is_open
from .softmax import biased_attention
from .windows import crop, join_heads, pad_to_windows, split_heads, window_partition

# Added to the logits of pairs that must not see each other. Finite: a window of nothing but padding
# stays free of NaN. The published -100 leaves weights of e^-100, which float32 holds as a denormal
# number: products with it take the processor a hundred times as long. e^-1000 is zero.
MASKED = -1000.0

Size = tuple[int, int]


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


def _wrapped(length: int, shift: int) -> Tensor:
    """Which positions of a rolled axis went round its end: 0 or 1, ``(length,)``.

    Within a window, those that did were no neighbours of those that did not.
    """
    source = torch.arange(length) - shift
    return ((source < 0) | (source >= length)).long()


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
    (height, width), (h, w) = grid, window
    padded = ((height + h - 1) // h * h, (width + w - 1) // w * w)
    label = torch.zeros(padded, dtype=torch.long)
    if shift:
        rows, columns = (_wrapped(length, shift) for length in padded)
        label = rows[:, None] * 2 + columns
    label = window_partition(label[None, :, :, None], window)[0, :, :, 0]  # windows, L
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

    Args:
        dim: Channels of the branch.
        num_heads: Heads; must divide ``dim``.
        window_size: Side of a window, in tokens.
        shift: Roll of the map along both axes before it is cut into windows; negative rolls to the
            top left. Off for maps no larger than one window, as published.
        takes_value: The values come from the branch before.
        mask_padding: Hide the padding that fills up the window grid. A map smaller than a window
            is then not padded at all, which costs less. Published weights were trained without it.

    Shapes:
        x, value: ``(B, H, W, dim)``, any H and W; returns ``(B, H, W, dim)``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int = 7,
        shift: int = 0,
        takes_value: bool = False,
        mask_padding: bool = False,
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
        self.proj = nn.Linear(dim, dim)
        table = torch.zeros((2 * window_size - 1) ** 2, num_heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.kept = SizeCache()

    def switch_to_deploy(self) -> ShiftedWindowAttention:
        """Gather the bias of a whole window for good; keep bias and mask together for each size."""
        if not self.kept.active:
            bias = self._window_bias((self.window_size, self.window_size)).detach().contiguous()
            del self.relative_position_bias_table
            self.register_buffer('relative_position_bias', bias)  # heads, L, L
            self.kept.active = True
        return self

    def forward(self, x: Tensor, value: Tensor | None = None) -> Tensor:
        if (value is not None) != self.takes_value:
            raise ValueError('a value must be given exactly where the branch takes one')
        grid = height, width = x.shape[1], x.shape[2]
        size, heads = self.window_size, self.num_heads
        # Graphs for any size are for maps that are larger than a window.
        shift = self.shift if is_open(*grid) or min(grid) > size else 0
        window = (min(size, height), min(size, width)) if self.mask_padding else (size, size)
        x = pad_to_windows(x, window)
        if self.takes_value:
            q, k = split_heads(linear(self.qk, x), window, shift, 2, heads)
            (v,) = split_heads(pad_to_windows(value, window), window, shift, 1, heads)
        else:
            q, k, v = split_heads(linear(self.qkv, x), window, shift, 3, heads)
        out = self._attend(q, k, v, self._bias(grid, window, shift, q.dtype))
        out = linear(self.proj, join_heads(out, window, shift, (x.shape[1], x.shape[2]), heads))
        if self.takes_value:
            out = add(out, x)
        return crop(out, grid)

    def _bias(self, grid: Size, window: Size, shift: int, dtype: torch.dtype) -> Tensor:
        """Bias and mask of a map: ``(1, windows * heads, L, L)``; without mask, that of one window,
        ``(1, heads, L, L)``.
        """

        def make() -> Tensor:
            bias = self._window_bias(window)
            hides = self.mask_padding and (grid[0] % window[0] or grid[1] % window[1])
            if shift or hides:
                like = (bias.device, bias.dtype)
                bias = bias + window_mask(grid, window, shift, self.mask_padding, *like)
            return bias.reshape(1, -1, *bias.shape[-2:]).to(dtype)

        if not self.kept.active:
            return make()
        return self.kept.get((grid, dtype), self.relative_position_bias, make)

    def _window_bias(self, window: Size) -> Tensor:
        """The bias within a window of h x w tokens: ``(heads, L, L)``, L = h * w."""
        if not self.kept.active:
            table = self.relative_position_bias_table
            index = relative_position_index(self.window_size, window, table.device)
            return table[index].permute(2, 0, 1)
        # Of a window that is cut to a smaller map: the corner of the whole window's bias.
        (h, w), size = window, self.window_size
        bias = self.relative_position_bias.view(-1, size, size, size, size)
        return bias[:, :h, :w, :h, :w].reshape(-1, h * w, h * w)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Attention of what :func:`split_heads` gives; the same for :func:`join_heads`.

        Windows that share their bias count as images.
        """
        if bias.shape[1] != q.shape[1]:
            q, k, v = (t.reshape(-1, self.num_heads, *t.shape[2:]) for t in (q, k, v))
        return biased_attention(q, k, v.to(q.dtype), bias)


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
        gate = linear(self.fc1, x)
        gate = linear(self.fc2, gate.relu_() if runs_eagerly(gate) else gate.relu())
        x = gate.sigmoid_().mul_(x) if runs_eagerly(gate, x) else x * gate.sigmoid()
        return add(linear(self.proj, x), x)
