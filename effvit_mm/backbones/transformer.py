"""The plain transformer's block, and tokens on their way through a row of blocks.

Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, figure 1 and equations 2 and 3. The
attention is any mechanism, also one that drops tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import isqrt
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import (
    NO_GRID,
    Layout,
    Sampled,
    TokenState,
    build_mechanism,
    has,
)
from ..attention.e_attention import rows
from ..attention.mechanism import Size
from ..attention.sizes import is_recorded, surely_equal
from ..attention.windows import tokens_to_windows, window_of, windows_to_tokens
from .stochastic_depth import StochasticDepth

LayerNorm = partial(nn.LayerNorm, eps=1e-6)
OUT_TYPES = ('featmap', 'cls_token')


class MLP(nn.Module):
    """Two linear layers with an exact GELU between: ``(B, N, C) -> (B, N, C)``."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    """Queries, keys and values of tokens, a mechanism, and the output projection.

    Shapes:
        x: ``(B, N, dim)``; returns the same, or a :class:`Sampled` of projected rows ``(B, extra +
        K, dim)`` where the mechanism drops tokens. Where the layout has ``NO_GRID`` of queries, the
        extra tokens alone.
    """

    def __init__(
        self, dim: int, num_heads: int, attention: Mapping | None, may_sample: bool = True
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'num_heads={num_heads} does not divide the width {dim}')
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        width = dim // num_heads
        self.mechanism = build_mechanism(attention, num_heads, width, width, may_sample)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, layout: Layout, tokens: TokenState | None = None
    ) -> Tensor | Sampled:
        # B N 3C -> 3, B heads N C/heads
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if layout.query_grid == NO_GRID:
            q = q[:, :, : layout.num_extra_tokens]
        state = {'tokens': tokens} if has(self.mechanism, 'samples_tokens') else {}
        out = self.mechanism(q, k, v, layout, **state)
        if isinstance(out, Sampled):
            return out._replace(values=self._join_heads(out.values))
        return self._join_heads(out)

    def _join_heads(self, x: Tensor) -> Tensor:
        return self.proj(x.transpose(1, 2).flatten(2))


class WindowAttention(Attention):
    """Attention within windows of the map, which see nothing of each other but the extra tokens.

    Extra tokens are copied into each window, their mean comes out: :func:`tokens_to_windows`. A
    mechanism that drops tokens is a ValueError.
    """

    def __init__(
        self, dim: int, num_heads: int, attention: Mapping | None, window_size: int
    ) -> None:
        super().__init__(dim, num_heads, attention, may_sample=False)
        self.window_size = window_size

    def forward(self, x: Tensor, layout: Layout, tokens: TokenState | None = None) -> Tensor:
        grid, extra = layout.key_grid, layout.num_extra_tokens
        window = window_of(grid, self.window_size)
        windows = tokens_to_windows(x, grid, extra, self.window_size)
        attended: Any = super().forward(windows, Layout(window, window, extra))
        return windows_to_tokens(attended, grid, extra, self.window_size)


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm; pre-norm residuals.

    ``window_size`` None is attention to the whole map.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path: float,
        attention: Mapping | None = None,
        window_size: int | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        if window_size is None:
            self.attn = Attention(dim, num_heads, attention)
        else:
            self.attn = WindowAttention(dim, num_heads, attention, window_size)
        self.norm2 = LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path)

    def forward(
        self, x: Tensor, layout: Layout, tokens: TokenState | None = None
    ) -> tuple[Tensor, Tensor | None, TokenState | None]:
        """Tokens ``(B, N, C)``; returns them, and where some were dropped, the rows kept of ``x``
        ``(B, extra + K)`` and which tokens those are."""
        out = self.attn(self.norm1(x), layout, tokens)
        index = kept = None
        if isinstance(out, Sampled):
            out, index, kept = out
            x = rows(x, index)
        elif layout.query_grid == NO_GRID:
            x = x[:, : layout.num_extra_tokens]
        x = x + self.drop_path(out)
        return x + self.drop_path(self.mlp(self.norm2(x))), index, kept


class Tokens(NamedTuple):
    """A batch's tokens between two blocks.

    Attributes:
        x: ``(B, extra + N, C)``.
        grid: (H, W) of the full map.
        extra: Class and distillation tokens in front.
        state: Which patch tokens are left; None is all of them.
        canvas: ``(B, H * W, C)`` with the last features of dropped tokens; None where none is
            dropped or they are of no use.
    """

    x: Tensor
    grid: Size
    extra: int
    state: TokenState | None = None
    canvas: Tensor | None = None

    def valid(self) -> Tensor | None:
        """``(B, extra + N)``, False where a row is padding; None where there is no padding."""
        return None if self.state is None else self.state.row_valid()

    def as_map(self, norm: nn.Module) -> Tensor:
        """Normed patch tokens as a map ``(B, C, H, W)``; dropped cells hold their last feature."""
        x = norm(self.x[:, self.extra :])
        if self.state is not None:
            x = fill_canvas(norm(self.canvas), x, self.state)
        return x.transpose(1, 2).unflatten(2, self.grid)


def run_block(
    block: Block,
    tokens: Tokens,
    run: Callable,
    keep_dropped: bool = False,
    extra_alone: bool = False,
) -> Tokens:
    """Tokens behind a block.

    Args:
        block: The block.
        tokens: What goes in.
        run: ``run(block, *args)`` calls it, under checkpointing or not.
        keep_dropped: Write the features of tokens that are dropped here to the canvas.
        extra_alone: Ask for the extra tokens alone; the result has no patch tokens.
    """
    layout = Layout(NO_GRID if extra_alone else tokens.grid, tokens.grid, tokens.extra)
    x, index, kept = run(block, tokens.x, layout, tokens.state)
    if index is None:
        return tokens._replace(x=x)
    canvas = None
    if keep_dropped:
        before = tokens.x[:, tokens.extra :]
        canvas = (
            before
            if tokens.state is None or tokens.canvas is None
            else fill_canvas(tokens.canvas, before, tokens.state)
        )
    return tokens._replace(x=x, state=kept, canvas=canvas)


def fill_canvas(canvas: Tensor, x: Tensor, state: TokenState) -> Tensor:
    """Write the features of the present patch tokens into the full map: ``(B, total, C)``."""
    # Padding writes to a row behind the last, which is cut off.
    place = (state.place[:, state.extra :] - state.extra)[..., None]
    longer = F.pad(canvas, (0, 0, 0, 1))
    return longer.scatter(1, place.expand(-1, -1, x.shape[-1]), x)[:, :-1]


def resize_positions(positions: Tensor, extra: int, grid: Size, new_grid: Size) -> Tensor:
    """Position embeddings of another grid: timm's, by bicubic interpolation with antialiasing.

    Args:
        positions: ``(1, extra + H * W, C)``; those of the extra tokens stay as they are.
        extra: Extra tokens in front.
        grid: (H, W) of ``positions``.
        new_grid: (H, W) that is wanted.
    """
    if surely_equal(grid, new_grid):
        return positions
    table = positions[:, extra:].float().transpose(1, 2).unflatten(2, grid)  # 1 C H W
    table = resize_cubic(table, new_grid).flatten(2).transpose(1, 2)
    return torch.cat([positions[:, :extra], table.to(positions.dtype)], 1)


def resize_cubic(x: Tensor, size: Size) -> Tensor:
    """Bicubic interpolation with antialiasing: ``(1, C, H, W)`` to ``(1, C, *size)``."""
    if not is_recorded():
        return F.interpolate(x, size, mode='bicubic', antialias=True)
    # Products of matrices, since converters of graphs do not know that operator.
    rows, columns = (cubic_weights(x.shape[i + 2], size[i], x.device) for i in (0, 1))
    return rows @ (x @ columns.transpose(-2, -1))


def cubic_weights(old: int, new: int, device: torch.device) -> Tensor:
    """What each of ``new`` places takes of each of ``old`` ones along a side: ``(new, old)``.

    The antialiased bicubic interpolation of PyTorch and Pillow: Keys' kernel with a = -0.5, as wide
    as a new place where these are fewer.
    """
    index = torch.arange(new, dtype=torch.float32, device=device)
    count = index[-1:] + 1  # converters cannot divide by a size that is open
    places = (index + 0.5) * old / count
    distance = torch.arange(old, device=device) + 0.5 - places[:, None]
    distance = distance.abs() * (count / old).clamp(max=1)
    near, far = distance.clamp(max=1), distance.clamp(1, 2)  # each is 0 where the other begins
    weights = (1.5 * near - 2.5) * near**2 + 1 - 0.5 * (((far - 5) * far + 8) * far - 4)
    return weights / weights.sum(1, keepdim=True)


class PositionEmbedding(nn.Module):
    """What both patch embeddings share: extra tokens in front, and positions for any grid.

    A state dict of another square image size is resized as it is loaded.

    Args:
        dim: Width.
        grid: (H, W) of the position embeddings.
        extra_tokens: Names of the learned tokens in front: ``('cls_token',)``.
    """

    def __init__(self, dim: int, grid: Size, extra_tokens: tuple[str, ...]) -> None:
        super().__init__()
        self.grid, self.extra_tokens = grid, extra_tokens
        for name in extra_tokens:
            setattr(self, name, nn.Parameter(torch.zeros(1, 1, dim)))
        extra = self.num_extra_tokens = len(extra_tokens)
        self.pos_embed = nn.Parameter(torch.zeros(1, extra + grid[0] * grid[1], dim))
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)

    def add_positions(self, x: Tensor) -> Tensor:
        """Patches ``(B, C, H, W)`` to tokens ``(B, extra + H * W, C)``."""
        positions = resize_positions(
            self.pos_embed, self.num_extra_tokens, self.grid, (x.shape[2], x.shape[3])
        )
        extra = [getattr(self, name).expand(x.shape[0], -1, -1) for name in self.extra_tokens]
        return torch.cat([*extra, x.flatten(2).transpose(1, 2)], 1) + positions

    def prepare_state_dict(self, state: dict[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
        """``state`` with position embeddings of another square grid resized to ours."""
        name, extra = f'{prefix}pos_embed', self.num_extra_tokens
        given = state.get(name)
        if given is None or given.ndim != 3 or given.shape == self.pos_embed.shape:
            return state
        side = isqrt(max(given.shape[1] - extra, 0))
        if side == 0 or side**2 != given.shape[1] - extra:
            return state
        return {**state, name: resize_positions(given, extra, (side, side), self.grid)}

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        state_dict.update(self.prepare_state_dict(state_dict, prefix))
        super()._load_from_state_dict(state_dict, prefix, *args)
