"""Cross-attention with the class token as its only query.

Chen, Fan, Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image
Classification", ICCV 2021, arXiv 2103.14899, section 3.3 and equation 4. One query makes the cost
linear in the number of tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """The class token attends to all tokens, itself included, and is all that comes out.

    Args:
        dim: Width of the tokens.
        num_heads: Heads; must divide ``dim``.
        qkv_bias: Whether the projections to queries, keys and values have a bias.

    Shapes:
        x: ``(B, N, dim)``, the class token first; returns ``(B, 1, dim)``.
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
        self.folded = False

    def switch_to_deploy(self) -> CrossAttention:
        """From now on make no keys and values of all the tokens."""
        self.folded = True
        return self

    def _split(self, x: Tensor) -> Tensor:
        """``(B, N, dim) -> (B, heads, N, dim / heads)``."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.folded:
            return self.proj(self.attend_folded(x))
        q, k, v = self._split(self.q(x[:, :1])), self._split(self.k(x)), self._split(self.v(x))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))

    def attend_folded(self, x: Tensor) -> Tensor:
        """The same before the projection, ``(B, 1, dim)``, from products with the tokens as such.

        There being one query, its product with a key is ``q^T (W_k x) = (W_k^T q)^T x``, and the
        weighted mean of the values ``W_v`` times that of the tokens: a projection of one token for
        each head where there were two of all tokens. The bias of the keys adds the same to all
        logits of a head, which softmax does not see; that of the values is added to their mean.
        """
        heads, (dim, _) = self.num_heads, self.k.weight.shape
        to_key, to_value = (layer.weight.view(heads, -1, dim) for layer in (self.k, self.v))
        q = self.q(x[:, 0]).view(-1, heads, dim // heads).transpose(0, 1)  # heads B d
        queries = torch.bmm(q, to_key).transpose(0, 1).unsqueeze(1)  # B 1 heads C
        tokens = x.unsqueeze(1)
        mean = F.scaled_dot_product_attention(queries, tokens, tokens, scale=(dim // heads) ** -0.5)
        mean = mean.squeeze(1).transpose(0, 1)  # heads B C
        values = torch.bmm(mean, to_value.transpose(1, 2)).transpose(0, 1).reshape(-1, dim)
        return (values if self.v.bias is None else values + self.v.bias).unsqueeze(1)
