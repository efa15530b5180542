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

from .sizes import even_steps, is_open
from .softmax import Layout


def cosformer_map(x: Tensor, positions: Tensor, total: int) -> Tensor:
    """ReLU, weighted by the sine and cosine of a token's place: twice the width.

    Qin et al., "cosFormer", ICLR 2022. Products of two maps then carry
    ``cos(pi (i - j) / 2M)``: near tokens weigh more.
    """
    angle = (positions.float() * (pi / (2 * total)))[:, None, :, None]
    x = x.relu()
    return torch.cat([x * angle.sin().to(x.dtype), x * angle.cos().to(x.dtype)], -1)


def relu_map(x: Tensor, positions: Tensor, total: int) -> Tensor:
    """ReLU. Cai et al., "EfficientViT", ICCV 2023."""
    return x.relu()


def elu_map(x: Tensor, positions: Tensor, total: int) -> Tensor:
    """``elu(x) + 1``. Katharopoulos et al., 2020, equation 7."""
    return F.elu(x) + 1


# Besides these, 'softmax': over the channels of a query, over the tokens of the keys. Shen et al.,
# "Efficient Attention", WACV 2021.
POINTWISE_MAPS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    'cosformer': cosformer_map,
    'relu': relu_map,
    'elu': elu_map,
}
FEATURE_MAPS = (*POINTWISE_MAPS, 'softmax')


def map_features(
    name: str,
    q: Tensor,
    k: Tensor,
    query_positions: Tensor,
    key_positions: Tensor,
    total: int,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Feature maps of queries and keys.

    Args:
        name: One of ``FEATURE_MAPS``.
        q, k: ``(B, heads, N or M, d)``.
        query_positions, key_positions: ``(B or 1, N or M)``, 1-based places in the unpruned row.
        total: Tokens before pruning.
        valid: ``(B, M)``: False where a key is padding, which gets zero features.
    """
    if name == 'softmax':
        if valid is not None:
            k = k.masked_fill(~valid[:, None, :, None], torch.finfo(k.dtype).min)
        q, k = q.softmax(-1), k.softmax(-2)
    else:
        feature_map = POINTWISE_MAPS[name]
        q, k = feature_map(q, query_positions, total), feature_map(k, key_positions, total)
    if valid is not None:
        k = k * valid[:, None, :, None].to(k.dtype)
    return q, k


def normalised_product(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-6) -> Tensor:
    """``phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K))`` of mapped features, in the cheaper order.

    The sums run over all tokens, so they are kept in float32. A query whose weights are all zero
    gets zero.
    """
    n, m, d, e = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
    with torch.autocast(q.device.type, enabled=False):
        q, k, value = q.float(), k.float(), v.float()
        total = q @ k.sum(-2)[..., None]  # B heads N 1
        if not is_open(n, m) and n * m * (d + e) < (n + m) * d * e:
            out = (q @ k.transpose(-2, -1)) @ value
        else:
            out = q @ (k.transpose(-2, -1) @ value)
        return (out / total.clamp_min(eps)).to(v.dtype)


class LinearAttention(nn.Module):
    """Attention whose cost is linear in the tokens.

    Args:
        num_heads, key_dim, value_dim: Heads, and widths of one head.
        feature_map: ``'cosformer'``, ``'relu'``, ``'elu'`` or ``'softmax'``.

    Shapes:
        See :class:`SoftmaxAttention`; there is no N x M matrix that a bias could enter.
    """

    takes_bias = False

    def __init__(
        self, num_heads: int, key_dim: int, value_dim: int, feature_map: str = 'cosformer'
    ) -> None:
        super().__init__()
        if feature_map not in FEATURE_MAPS:
            allowed = ', '.join(map(repr, FEATURE_MAPS))
            raise ValueError(f'feature_map={feature_map!r}: allowed are {allowed}')
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.feature_map = feature_map

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, bias: Tensor | None = None
    ) -> Tensor:
        keys = k.shape[-2]
        key_positions = torch.arange(1, keys + 1, device=k.device)[None]
        query_positions = key_positions
        if layout.query_grid != layout.key_grid:  # places of the queries among the keys
            count = q.shape[-2]
            query_positions = even_steps(1, keys, count, q.device)[None]
        q, k = map_features(self.feature_map, q, k, query_positions, key_positions, keys)
        return normalised_product(q, k, v)
