"""Softmax attention: the mechanism that the others replace, and their common call.

A mechanism is a module that gets queries, keys and values with the heads already split, and where
they lie in the image; projections, pooling and what follows belong to the network around it. It is
built with ``(num_heads, key_dim, value_dim)``, the widths being those of one head, and its own
options.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]
NO_GRID: Size = (0, 0)


class Layout(NamedTuple):
    """Where tokens lie: extra tokens (class, distillation) first, then a map, row by row.

    Attributes:
        query_grid: (H, W) of the queries' map; ``NO_GRID`` where the queries are the extra tokens
            alone.
        key_grid: (H, W) of the keys' and values' map.
        num_extra_tokens: Tokens in front of both maps that are not on the grid.
    """

    query_grid: Size
    key_grid: Size
    num_extra_tokens: int = 0


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """``softmax(Q K^T / sqrt(d) + bias) V``: PyTorch's fused kernels, where they serve.

    On the CPU they do not when the bias is learnt: PyTorch then goes back to single steps and looks
    through the weights, twice, for rows in which everything is masked. Each row here sees
    something, so the plain steps do, in two thirds of the time.

    Shapes:
        q: ``(..., N, d)``; k: ``(..., M, d)``; v: ``(..., M, e)``; bias: finite, broadcastable to
        ``(..., N, M)``. Returns ``(..., N, e)``.
    """
    if bias.device.type == 'cpu' and bias.requires_grad and torch.is_grad_enabled():
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        logits += bias
        return logits.softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


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
    # Whether it may be asked for the extra tokens' results alone: see ``NO_GRID``.
    answers_extra_alone = True

    def __init__(self, num_heads: int, key_dim: int, value_dim: int) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, bias: Tensor | None = None
    ) -> Tensor:
        bias = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
