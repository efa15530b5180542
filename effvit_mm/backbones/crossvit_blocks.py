"""What CrossViT is built from: a transformer block, and the exchange between two branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ..attention import CrossAttention, tokens_to_windows, windows_to_tokens
from ..attention.eager import runs_eagerly
from ..deploy import PackingModule, linear_add, packed_linear
from .mlp import MLP

Size = tuple[int, int]
BRANCHES = (0, 1)
LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class SelfAttention(PackingModule):
    """Softmax attention among all tokens of a branch, or within windows of its map.

    Args:
        dim: Width of the tokens.
        num_heads: Heads; must divide ``dim``.
        window_size: Side of a window, in tokens; None is no windows. See
            :func:`tokens_to_windows`: the class token is copied into each, the mean comes out.

    Shapes:
        x: ``(B, 1 + H * W, dim)``; grid: (H, W), needed with windows alone; residual: as ``x``,
        added to what comes out. Returns the same shape.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int | None = None) -> None:
        super().__init__(count=2)
        if dim % num_heads:
            raise ValueError(f'num_heads={num_heads} does not divide the branch width {dim}')
        self.num_heads, self.window_size = num_heads, window_size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, grid: Size | None = None, residual: Tensor | None = None
    ) -> Tensor:
        if self.window_size is None:
            return self.project(self.attend(x), residual)
        windows = self.attend(tokens_to_windows(x, grid, 1, self.window_size))
        x = windows_to_tokens(self.project(windows), grid, 1, self.window_size)
        return x if residual is None else residual + x

    def attend(self, x: Tensor) -> Tensor:
        """Attention among all tokens of a row, heads joined: ``(B, N, C) -> (B, N, C)``."""
        qkv = packed_linear(self.qkv, x, self.packed[0])
        shape = (*x.shape[:2], 3, self.num_heads, x.shape[2] // self.num_heads)
        qkv = qkv.view(shape).permute(2, 0, 3, 1, 4)  # 3 B heads N d
        return F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).flatten(2)

    def project(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The last projection, and the sum with ``residual``: ``(B, N, C) -> (B, N, C)``."""
        if residual is None:
            return packed_linear(self.proj, x, self.packed[1])
        return linear_add(self.proj, x, residual, self.packed[1])


class TransformerBlock(nn.Module):
    """The pre-norm block of ViT: ``(B, N, C) -> (B, N, C)``; windows need the grid (H, W) too."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path: float,
        window_size: int | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = SelfAttention(dim, num_heads, window_size)
        self.norm2 = LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path, 'row')

    def forward(self, x: Tensor, grid: Size | None = None) -> Tensor:
        if isinstance(self.drop_path, nn.Identity):  # deployed
            x = self.attn(self.norm1(x), grid, x)
            return self.mlp(self.norm2(x), x)
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def with_class_token(cls: Tensor, tokens: Tensor) -> Tensor:
    """``tokens`` ``(B, N, C)``, which nobody else may need, with another class token ``(B, 1, C)``:
    written over them where that is allowed."""
    if runs_eagerly(cls, tokens) and cls.dtype == tokens.dtype:
        tokens[:, :1] = cls
        return tokens
    return torch.cat((cls, tokens[:, 1:]), 1)


class TokenGELU(nn.GELU):
    """Exact GELU of few numbers, for which PyTorch's own call is dear on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32 and runs_eagerly(x):
            return x * torch.special.ndtr(x)
        return super().forward(x)


def token_projection(dim: int, out_dim: int) -> nn.Sequential:
    """Take a class token to the other branch's width, f or g of the paper's equation 5."""
    return nn.Sequential(LayerNorm(dim), TokenGELU(), nn.Linear(dim, out_dim))


class Fusion(nn.Module):
    """A branch's class token collects from the other branch's patches (equations 3 to 5, figure 4).

    It goes over to the other branch's width, attends there, and comes back. There is a residual
    around the attention, none around the whole.

    Shapes:
        own: ``(B, 1 + N, dim)``, other: ``(B, 1 + M, other_dim)``; returns ``(B, 1, dim)``.
    """

    def __init__(self, dim: int, other_dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.project = token_projection(dim, other_dim)
        self.norm = LayerNorm(other_dim)
        self.attn = CrossAttention(other_dim, num_heads)
        self.revert = token_projection(other_dim, dim)
        self.drop_path = StochasticDepth(drop_path, 'row')

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        cls = self.project(own[:, :1])
        if isinstance(self.drop_path, nn.Identity):  # deployed
            tokens = with_class_token(self.norm(cls), self.norm(other))
            return self.revert(cls + self.attn(tokens))
        tokens = torch.cat((cls, other[:, 1:]), 1)
        return self.revert(cls + self.drop_path(self.attn(self.norm(tokens))))


class MultiScaleStage(nn.Module):
    """One multi-scale block: transformer blocks in each branch, then the exchange (figure 2).

    Args:
        dims: Widths of the branches.
        depths: Transformer blocks of the branches; 0 where a branch ends before this stage.
        fused: Branches whose class token is renewed at the end.
        num_heads, mlp_ratio: Of both branches.
        drop_rates: Stochastic depth of the blocks: S takes the first, the exchange the last.
        windows: For each branch the ``window_size`` of its blocks.
    """

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        fused: Sequence[int],
        num_heads: int,
        mlp_ratio: float,
        drop_rates: Sequence[float],
        windows: Sequence[Sequence[int | None]],
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    TransformerBlock(dims[b], num_heads, mlp_ratio, drop_rates[i], windows[b][i])
                    for i in range(depths[b])
                )
            )
            for b in BRANCHES
        )
        self.fusions = nn.ModuleDict(
            {str(b): Fusion(dims[b], dims[1 - b], num_heads, drop_rates[-1]) for b in fused}
        )

    def __len__(self) -> int:
        """Layers one after another: the blocks of the deeper branch, and the exchange."""
        return max(map(len, self.blocks)) + bool(self.fusions)

    def forward(
        self, tokens: Sequence[Tensor], grids: Sequence[Size], run: Callable[..., Tensor]
    ) -> list[Tensor]:
        """Tokens of the branches ``(B, 1 + H * W, C)``, and their grids (H, W), to the same tokens.

        ``run(block, *args)`` runs a block.
        """
        tokens = list(tokens)
        for b in BRANCHES:
            for block in self.blocks[b]:
                tokens[b] = run(block, tokens[b], grids[b])
        fused = list(tokens)  # both directions read the tokens from before the exchange
        for name, fusion in self.fusions.items():
            b = int(name)
            cls = run(fusion, tokens[b], tokens[1 - b])
            fused[b] = torch.cat((cls, tokens[b][:, 1:]), 1)
        return fused
