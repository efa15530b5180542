"""Softmax attention: the mechanism that the others replace.

Vaswani et al., "Attention is all you need", NeurIPS 2017, equation 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mechanism import Layout, register_mechanism


@register_mechanism
class SoftmaxAttention(nn.Module):
    """``softmax(Q K^T / sqrt(d) + bias) V``, by PyTorch's fused kernels where they serve.

    Shapes:
        q: ``(B, heads, N, key_dim)``; k: ``(B, heads, M, key_dim)``; v: ``(B, heads, M,
        value_dim)``; bias: finite, broadcastable to ``(B, heads, N, M)``. Returns ``(B, heads, N,
        value_dim)``.
    """

    takes_bias = True
    takes_mask = True
    takes_extra_queries = True

    def __init__(self, num_heads: int, key_dim: int, value_dim: int) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, bias: Tensor | None = None
    ) -> Tensor:
        bias = None if bias is None else bias.to(q.dtype)
        if bias is not None and bias.requires_grad and bias.device.type == 'cpu':
            # The CPU's fused kernel knows no derivative of a bias. PyTorch would take single steps
            # and look through the weights, twice, for rows in which everything is masked.
            return (torch.matmul(q * self.key_dim**-0.5, k.transpose(-2, -1)) + bias).softmax(
                -1
            ) @ v
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
