"""Attention that keeps only the tokens that matter: sampled softmax attention, and e-attention.

E-attention joins linear attention with parameter-free token sampling: Zheng et al., "Lightweight
transformer image feature extraction network", PeerJ Computer Science 10:e1755, 2024. The paper's
formulas were not available to us. What stands here is a reconstruction from its abstract and its
section titles and from the methods it names (cosFormer, adaptive token sampling).

Both mechanisms return a :class:`Sampled` where they drop tokens: rows of the result for the extra
tokens and the kept ones alone. Keys and values are all tokens that came in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .caching import cached_by_size
from .linear import (
    FEATURE_MAPS,
    cosformer_waves,
    map_keys,
    map_queries,
    normalised_product,
)
from .mechanism import NO_GRID, Layout, check_choice, register_mechanism
from .sizes import surely_equal
from .token_sampling import TokenState, sample_tokens, significance


class Sampled(NamedTuple):
    """Output for the tokens that were kept.

    Attributes:
        values: ``(B, heads, extra + K, value_dim)``; ``(B, heads, extra, value_dim)`` where the
            queries were the extra tokens alone.
        index: ``(B, extra + K)`` or ``(B, extra)`` rows of the input that these are.
        tokens: Which tokens were kept.
    """

    values: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of the name
    tokens: TokenState


def rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of ``x: (B, ..., N, C)`` for each image: ``index: (B, K)`` gives ``(B, ..., K, C)``."""
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined]
    if surely_equal(x.shape[:1], (1,)) and not traced:  # what it gives takes others
        return x.index_select(-2, index[0])
    image = torch.arange(index.shape[0], device=index.device)[:, None]
    return x.movedim(x.ndim - 2, 1)[image, index].movedim(1, x.ndim - 2)


@cached_by_size
def _wave_table(total: int, device: torch.device) -> Tensor:
    """Waves of all places of a row ``(total + 1, 2)``, zeros behind the last for padding."""
    waves = cosformer_waves(torch.arange(1, total + 1, device=device), total)
    return torch.nn.functional.pad(waves, (0, 0, 0, 1))


class Keys(NamedTuple):
    """What queries are matched with.

    Attributes:
        k: ``(B, heads, M, d)``, mapped where the mechanism maps keys.
        waves: ``(B or 1, M, 2)``, :func:`cosformer_waves` of their places in the unpruned row, zero
            for padding.
        valid: ``(B, M)``, False where a key is padding; None where there is no padding.
    """

    k: Tensor
    waves: Tensor
    valid: Tensor | None


class TokenSamplingAttention(nn.Module, ABC):
    """What both mechanisms share: scores from the class token, sampling, bookkeeping.

    Args:
        num_heads, key_dim, value_dim: Heads, and widths of one head.
        num_samples: Sample points: an upper bound on the patch tokens kept. None is as many as the
            full map has tokens, which drops what the points miss.
        sample: Drop tokens here; False computes the same attention for all tokens.

    Attributes:
        budget: Patch tokens that an image keeps at most, the most significant ones; graphs that are
            exported have as many rows for every image. None is no bound, and ``num_samples`` rows.

    Shapes:
        q, k: ``(B, heads, N, key_dim)``; v: ``(B, heads, N, value_dim)``. The class token is the
        first of ``num_extra_tokens``, one at least; ``tokens`` is the :class:`TokenState` of the
        patch tokens. Returns ``(B, heads, N, value_dim)``, or a :class:`Sampled` where tokens were
        dropped.
    """

    samples_tokens = True
    takes_extra_queries = True

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int,
        num_samples: int | None = None,
        sample: bool = True,
    ) -> None:
        super().__init__()
        if num_samples is not None and (type(num_samples) is not int or num_samples < 1):
            raise ValueError(f'num_samples={num_samples!r}: None or an int of 1 or more is needed')
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.num_samples, self.sample = num_samples, sample
        self.budget: int | None = None

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        layout: Layout,
        bias: Tensor | None = None,
        tokens: TokenState | None = None,
    ) -> Tensor | Sampled:
        extra = layout.num_extra_tokens
        if extra < 1:
            raise ValueError(f'{type(self).__name__} needs a class token; the layout has none')
        total = k.shape[-2] - extra if tokens is None else tokens.total
        end = extra + total  # the place of padding
        table = _wave_table(end, k.device)
        waves = table[None, :end] if tokens is None else table[tokens.place]
        row_valid, valid = (None, None) if tokens is None else (tokens.row_valid(), tokens.valid)
        keys = self.map_keys(Keys(k, waves, row_valid))
        if not self.sample:
            return self.attend(q, waves[:, : q.shape[-2]], keys, v)
        attention = self.class_attention(q[:, :, :1], table[None, :1], keys)
        score = significance(attention, v)[:, extra:]
        kept, valid = sample_tokens(score, self.num_samples or total, valid, self.budget)
        kept = kept + extra
        place = kept if tokens is None else tokens.place.gather(1, kept)
        front = torch.zeros_like(kept[:, :1]) + torch.arange(extra, device=q.device)
        place = torch.cat([front, place.masked_fill(~valid, end)], 1)
        state = TokenState(place, valid, extra, total)
        if layout.query_grid == NO_GRID:
            return Sampled(self.attend(q, waves[:, :extra], keys, v), front, state)
        index = torch.cat([front, kept], 1)
        return Sampled(self.attend(rows(q, index), table[place], keys, v), index, state)

    def map_keys(self, keys: Keys) -> Keys:
        """What the methods below get as keys."""
        return keys

    @abstractmethod
    def class_attention(self, q: Tensor, waves: Tensor, keys: Keys) -> Tensor:
        """Attention of the class token's query ``(B, heads, 1, d)`` to all: ``(B, heads, M)``."""

    @abstractmethod
    def attend(self, q: Tensor, waves: Tensor, keys: Keys, v: Tensor) -> Tensor:
        """Attention of queries, whose waves are given, to all valid keys."""


@register_mechanism
class SampledSoftmaxAttention(TokenSamplingAttention):
    """Softmax attention with adaptive token sampling; fits trained weights without training.

    Fayyaz et al., "Adaptive Token Sampling for Efficient Vision Transformers", ECCV 2022.
    """

    def class_attention(self, q: Tensor, waves: Tensor, keys: Keys) -> Tensor:
        logits = (q * self.key_dim**-0.5) @ keys.k.transpose(-2, -1)
        if keys.valid is not None:
            hidden = ~keys.valid[:, None, None]
            logits = logits.masked_fill(hidden, torch.finfo(logits.dtype).min)
        return logits.softmax(-1)[:, :, 0]

    def attend(self, q: Tensor, waves: Tensor, keys: Keys, v: Tensor) -> Tensor:
        mask = None if keys.valid is None else keys.valid[:, None, None]
        return nn.functional.scaled_dot_product_attention(q, keys.k, v, attn_mask=mask)


@register_mechanism
class EAttention(TokenSamplingAttention):
    """Linear attention whose class row scores and samples the tokens.

    With ``phi`` the feature map, ``S = phi(K)^T V`` and ``z = sum phi(k_j)``, the class token's row
    is ``phi(q) phi(K)^T / (phi(q) z)``: O(N d), and no N x N matrix. The kept rows are
    ``phi(Q) S / (phi(Q) z)``. Reconstructed: see the module's docstring.

    Args:
        num_heads, key_dim, value_dim: Heads, and widths of one head.
        num_samples: Sample points, an upper bound on the patch tokens kept; None is as many as the
            full map has.
        sample: Drop tokens here; False computes the same attention for all tokens.
        feature_map: ``'cosformer'``, ``'relu'``, ``'elu'`` or ``'softmax'``.
    """

    def __init__(self, *args: Any, feature_map: str = 'cosformer', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.feature_map = check_choice('feature_map', feature_map, FEATURE_MAPS)

    def map_keys(self, keys: Keys) -> Keys:
        return keys._replace(k=map_keys(self.feature_map, *keys))

    def class_attention(self, q: Tensor, waves: Tensor, keys: Keys) -> Tensor:
        q = map_queries(self.feature_map, q, waves)
        weights = (keys.k.float() * q.float()).sum(-1)
        return weights / weights.sum(-1, keepdim=True).clamp_min(1e-6)

    def attend(self, q: Tensor, waves: Tensor, keys: Keys, v: Tensor) -> Tensor:
        return normalised_product(map_queries(self.feature_map, q, waves), keys.k, v)
