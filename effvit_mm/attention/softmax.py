"""Softmax attention: the mechanism that the others replace, and their common call.

A mechanism is a module that gets queries, keys and values with the heads already split, and where
they lie in the image; projections, pooling and what follows belong to the network around it. It is
built with ``(num_heads, key_dim, value_dim)``, the widths being those of one head, and its own
options.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


class Layout(NamedTuple):
    """Where tokens lie: extra tokens (class, distillation) first, then a map, row by row.

    Attributes:
        query_grid: (H, W) of the queries' map.
        key_grid: (H, W) of the keys' and values' map.
        num_extra_tokens: Tokens in front of both maps that are not on the grid.
    """

    query_grid: Size
    key_grid: Size
    num_extra_tokens: int = 0


class SoftmaxAttention(nn.Module):
    """``softmax(Q K^T / sqrt(d) + bias) V`` with PyTorch's fused kernels.

    Vaswani et al., "Attention is all you need", 2017, equation 1.

    Shapes:
        q: ``(B, heads, N, key_dim)``; k: ``(B, heads, M, key_dim)``; v: ``(B, heads, M,
        value_dim)``; bias: broadcastable to ``(B, heads, N, M)``, added to the logits. Returns
        ``(B, heads, N, value_dim)``.
    """

    # Whether a bias of query-key pairs (relative positions) can enter this mechanism.
    takes_bias = True

    def __init__(self, num_heads: int, key_dim: int, value_dim: int) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, bias: Tensor | None = None
    ) -> Tensor:
        bias = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
