"""Linear attention: a feature map of queries and keys in the place of softmax.

``out_i = phi(q_i)^T sum_j phi(k_j) v_j^T / (phi(q_i)^T sum_j phi(k_j))``. Katharopoulos et al.,
"Transformers are RNNs", ICML 2020, equation 5; the feature maps' sources stand with each.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mechanism import NO_GRID, Layout, check_choice, register_mechanism
from .sizes import even_steps, is_open


def cosformer_waves(positions: Tensor, total: int) -> Tensor:
    """Sine and cosine of places ``(..., N)``, from 1, in a row of ``total``: ``(..., N, 2)``."""
    angle = positions.float() * (pi / (2 * total))
    return torch.stack([angle.sin(), angle.cos()], -1)


def cosformer_map(x: Tensor, waves: Tensor) -> Tensor:
    """ReLU, weighted by the sine and cosine of a token's place: twice the width.

    Qin et al., "cosFormer", ICLR 2022. Products of two maps then carry
    ``cos(pi (i - j) / 2M)``: near tokens weigh more. Waves of zero leave a token out.
    """
    waves = waves.to(x.dtype)[:, None, :, :, None]  # B 1 N 2 1
    return (x[..., None, :].relu() * waves).flatten(-2)  # of a token first sines, then cosines


def relu_map(x: Tensor, waves: Tensor) -> Tensor:
    """ReLU. Cai et al., "EfficientViT", ICCV 2023."""
    return x.relu()


def elu_map(x: Tensor, waves: Tensor) -> Tensor:
    """``elu(x) + 1``. Katharopoulos et al., 2020, equation 7."""
    return F.elu(x) + 1


# Besides these, 'softmax': over the channels of a query, over the tokens of the keys. Shen et al.,
# "Efficient Attention", WACV 2021.
POINTWISE_MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'cosformer': cosformer_map,
    'relu': relu_map,
    'elu': elu_map,
}
FEATURE_MAPS = (*POINTWISE_MAPS, 'softmax')


def map_queries(name: str, q: Tensor, waves: Tensor) -> Tensor:
    """Feature map of queries.

    Args:
        name: One of ``FEATURE_MAPS``.
        q: ``(B, heads, N, d)``.
        waves: ``(B or 1, N, 2)`` of their places in the unpruned row: :func:`cosformer_waves`.
    """
    return q.softmax(-1) if name == 'softmax' else POINTWISE_MAPS[name](q, waves)


def map_keys(name: str, k: Tensor, waves: Tensor, valid: Tensor | None = None) -> Tensor:
    """Feature map of keys; arguments as for :func:`map_queries`.

    Args:
        valid: ``(B, M)``: False where a key is padding, which gets zero features. Its waves are
            zero already.
    """
    if name == 'cosformer':
        return cosformer_map(k, waves)
    if name == 'softmax':
        if valid is not None:
            k = k.masked_fill(~valid[:, None, :, None], torch.finfo(k.dtype).min)
        k = k.softmax(-2)
    else:
        k = POINTWISE_MAPS[name](k, waves)
    return k if valid is None else k * valid[:, None, :, None].to(k.dtype)


def normalised_product(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-6) -> Tensor:
    """``phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K))`` of mapped features, in the cheaper order.

    The sums run over all tokens, so they are kept in float32. A query whose weights are all zero
    gets zero.
    """
    n, m, d, e = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
    quadratic = not is_open(n, m) and n * m * (d + e) < (n + m) * d * e
    with torch.autocast(q.device.type, enabled=False):
        # One batch of matrices: runtimes see a transposed factor only where none is reshaped.
        q, k, value = (x.float().flatten(0, 1) for x in (q, k, v))
        total = q @ k.sum(-2)[..., None]  # B*heads N 1
        out = (q @ k.transpose(-2, -1)) @ value if quadratic else q @ (k.transpose(-2, -1) @ value)
        return (out / total.clamp_min(eps)).to(v.dtype).unflatten(0, (-1, v.shape[1]))


@register_mechanism
class LinearAttention(nn.Module):
    """Attention whose cost is linear in the tokens.

    Args:
        num_heads, key_dim, value_dim: Heads, and widths of one head.
        feature_map: ``'cosformer'``, ``'relu'``, ``'elu'`` or ``'softmax'``.

    Shapes:
        q: ``(B, heads, N, key_dim)``; k: ``(B, heads, M, key_dim)``; v: ``(B, heads, M,
        value_dim)``; returns ``(B, heads, N, value_dim)``. There is no N x M matrix that a bias
        could enter.
    """

    takes_extra_queries = True

    def __init__(
        self, num_heads: int, key_dim: int, value_dim: int, feature_map: str = 'cosformer'
    ) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.feature_map = check_choice('feature_map', feature_map, FEATURE_MAPS)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, bias: Tensor | None = None
    ) -> Tensor:
        keys = k.shape[-2]
        waves = cosformer_waves(torch.arange(1, keys + 1, device=k.device)[None], keys)
        query_waves = waves
        if layout.query_grid == NO_GRID:
            query_waves = waves[:, : q.shape[-2]]
        elif layout.query_grid != layout.key_grid:  # places of the queries among the keys
            places = even_steps(1, keys, q.shape[-2], q.device)
            query_waves = cosformer_waves(places[None], keys)
        q = map_queries(self.feature_map, q, query_waves)
        return normalised_product(q, map_keys(self.feature_map, k, waves), v)
