"""Cross-attention with the class token as its only query.

Chen, Fan, Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image
Classification", ICCV 2021, arXiv 2103.14899, section 3.3 and equation 4. One query makes the cost
linear in the number of tokens.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """The class token attends to all tokens, itself included, and is all that comes out.

    Args:
        dim: Width of the tokens.
        num_heads: Heads; must divide ``dim``.
        qkv_bias: Whether the projections to queries, keys and values have a bias.

    Shapes:
        x: ``(B, N, dim)``, the class token first; valid: ``(B, N)``, False where a row is padding,
        or None. Returns ``(B, 1, dim)``.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'num_heads={num_heads} does not divide the width {dim}')
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.k = nn.Linear(dim, dim, bias=qkv_bias)
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        q, k, v = self.q(x[:, :1]), self.k(x), self.v(x)
        # B N C -> B heads N C/heads
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        mask = None if valid is None else valid[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(out.transpose(1, 2).flatten(2))
