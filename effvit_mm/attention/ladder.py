"""Ladder self-attention with progressive shift.

Wu et al., "PSLT: A Light-weight Vision Transformer with Ladder Self-Attention and Progressive
Shift", TPAMI 2023, arXiv 2304.03481, section 3. The channels are split among branches; each branch
attends within windows that are shifted differently, and hands its output to the next branch, which
takes it as its values. A branch so saves its value projection and sees past its own windows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .caching import cached_by_size

# Added to the logits of pairs that must not see each other. Finite, as published: a window of
# nothing but padding then stays free of NaN.
MASKED = -100.0


def window_partition(x: Tensor, window: int) -> Tensor:
    """Cut maps into windows: ``(B, H, W, C) -> (B, windows, window ** 2, C)``.

    H and W are multiples of ``window``.
    """
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c).transpose(2, 3)
    return x.reshape(b, -1, window * window, c)


def window_reverse(windows: Tensor, window: int, h: int, w: int) -> Tensor:
    """Undo :func:`window_partition`: ``(B, windows, window ** 2, C) -> (B, H, W, C)``."""
    b, _, _, c = windows.shape
    x = windows.view(b, h // window, w // window, window, window, c).transpose(2, 3)
    return x.reshape(b, h, w, c)


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each pair of positions in a window: ``(window ** 2,) * 2``."""
    axis = torch.arange(window)
    position = torch.stack(torch.meshgrid(axis, axis, indexing='ij')).flatten(1)  # 2, L
    offset = position[:, :, None] - position[:, None, :] + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


def _regions(length: int, window: int, shift: int) -> Tensor:
    """Label the positions of a rolled axis: equal labels were neighbours before the roll."""
    axis = torch.arange(length)
    low, high = (length - window, length + shift) if shift < 0 else (shift, window)
    return (axis >= low).long() + (axis >= high).long()


@cached_by_size
def window_mask(
    h: int,
    w: int,
    window: int,
    shift: int,
    mask_padding: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Logit offsets of the windows of an ``h x w`` map: ``(windows, 1, L, L)``, L = window ** 2.

    The map is zero-padded to a multiple of ``window`` at the right and bottom, then rolled by
    ``shift`` along both axes. Pairs that the roll brought together are masked; keys that are
    padding only with ``mask_padding``.
    """
    pad_h, pad_w = h + -h % window, w + -w % window
    label = torch.zeros(pad_h, pad_w, dtype=torch.long)
    if shift:
        rows, columns = _regions(pad_h, window, shift), _regions(pad_w, window, shift)
        label = rows[:, None] * 3 + columns
    label = window_partition(label[None, :, :, None], window)[0, :, :, 0]  # windows, L
    hidden = label[:, :, None] != label[:, None, :]
    if mask_padding:
        padding = torch.ones(pad_h, pad_w, dtype=torch.bool)
        padding[:h, :w] = False
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
        mask_padding: Hide the padding that fills up the window grid. Published weights were trained
            without it.

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
        self.register_buffer(
            'relative_position_index', relative_position_index(window_size), persistent=False
        )

    def forward(self, x: Tensor, value: Tensor | None = None) -> Tensor:
        if (value is not None) != self.takes_value:
            raise ValueError('a value must be given exactly where the branch takes one')
        _, h, w, _ = x.shape
        shift = self.shift if min(h, w) > self.window_size else 0
        tokens, grid = self._to_windows(x, shift)
        if self.takes_value:
            q, k = self.qk(tokens).chunk(2, dim=-1)
            out = self._attend(q, k, self._to_windows(value, shift)[0], h, w, shift)
            out = self.proj(out) + tokens
        else:
            out = self.proj(self._attend(*self.qkv(tokens).chunk(3, dim=-1), h, w, shift))
        out = window_reverse(out, self.window_size, *grid)
        if shift:
            out = out.roll((-shift, -shift), (1, 2))
        return out[:, :h, :w]

    def _to_windows(self, x: Tensor, shift: int) -> tuple[Tensor, tuple[int, int]]:
        """Pad, roll and cut: windows ``(B, windows, L, C)`` and the padded map's size."""
        _, h, w, _ = x.shape
        bottom, right = -h % self.window_size, -w % self.window_size
        if bottom or right:
            x = F.pad(x, (0, 0, 0, right, 0, bottom))
        if shift:
            x = x.roll((shift, shift), (1, 2))
        return window_partition(x, self.window_size), (h + bottom, w + right)

    def _bias(self, h: int, w: int, shift: int, dtype: torch.dtype) -> Tensor:
        """Position bias and mask: ``(1 or windows, heads, L, L)``."""
        bias = self.relative_position_bias_table[self.relative_position_index]  # L, L, heads
        bias = bias.permute(2, 0, 1)[None].to(dtype)
        padded = h % self.window_size or w % self.window_size
        if not shift and not (self.mask_padding and padded):
            return bias
        mask = window_mask(
            h, w, self.window_size, shift, self.mask_padding, bias.device, bias.dtype
        )
        return bias + mask

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, h: int, w: int, shift: int) -> Tensor:
        """Attention within windows; q, k, v: ``(B, windows, L, C)``, returns the same shape."""
        b, windows, length, c = q.shape
        bias = self._bias(h, w, shift, q.dtype)
        v = v.to(q.dtype)  # the branch before may have left autocast

        def split(t: Tensor) -> Tensor:  # -> B, windows * heads, L, head width
            t = t.reshape(b, windows, length, self.num_heads, -1).transpose(2, 3)
            return t.reshape(b, windows * self.num_heads, length, -1)

        bias = bias.expand(windows, -1, -1, -1).reshape(1, -1, length, length)
        out = F.scaled_dot_product_attention(split(q), split(k), split(v), attn_mask=bias)
        out = out.view(b, windows, self.num_heads, length, -1).transpose(2, 3)
        return out.reshape(b, windows, length, c)


class PixelAdaptiveFusion(nn.Module):
    """Weigh the channels of the joined branches at each pixel, then mix them.

    A squeeze-excitation without the squeeze: the gate is a small MLP of the pixel alone. The gated
    map is the residual. Section 3.3 of the paper.

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
