"""Adaptive token sampling: keep the tokens that matter, without any parameter.

Fayyaz et al., "Adaptive Token Sampling for Efficient Vision Transformers", ECCV 2022. A
token's significance is the attention that the class token pays it, times the length of its value.
Tokens are drawn by inverse transform sampling at fixed points of the cumulative significance, so
that the result is deterministic; points that fall on the same token collapse, so that every image
keeps a number of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .caching import cached_by_size
from .sizes import even_steps


class TokenState(NamedTuple):
    """Which tokens a batch still has, after the extra tokens in front.

    Attributes:
        position: ``(B, N)`` place of each token in the full map, row by row from 0.
        valid: ``(B, N)`` False where a row is filled up to the longest of the batch.
        total: Tokens of the full map.
    """

    position: Tensor
    valid: Tensor
    total: int


def full_state(batch: int, total: int, device: torch.device) -> TokenState:
    """The state before any sampling: every token is there."""
    position = torch.arange(total, device=device).expand(batch, -1)
    return TokenState(position, torch.ones_like(position, dtype=torch.bool), total)


def significance(class_attention: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
    """Scores of the patch tokens, adding up to one: ``(B, N)``.

    Args:
        class_attention: ``(B, heads, N)`` attention from the class token.
        v: ``(B, heads, N, e)`` values.
        valid: ``(B, N)``: padding gets a score of zero.

    Where all scores vanish they stay zero.
    """
    length = torch.linalg.vector_norm(v.float(), dim=(1, 3))  # of the heads' values joined
    score = class_attention.float().sum(1) * length
    if valid is not None:
        score = score * valid
    return score / score.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def sample_tokens(score: Tensor, num_samples: int, valid: Tensor | None = None) -> Tensor:
    """Choose tokens by inverse transform sampling: ``(B, N)`` scores to a mask of the kept ones.

    Args:
        score: Non-negative; see :func:`significance`.
        num_samples: Points of the cumulative distribution that are looked up: an upper bound on
            the tokens kept. May be above or below N.
        valid: Padding is never kept.

    Images whose tokens cannot be told apart (one token, all scores zero) keep all.
    """
    if num_samples < 1:
        raise ValueError(f'num_samples={num_samples}: 1 or more is needed')
    if valid is None:
        valid = torch.ones_like(score, dtype=torch.bool)
    # Padding sorts to the front, where no sample point comes.
    ascending, order = score.masked_fill(~valid, -1).sort(dim=-1, stable=True)
    padding = ascending < 0
    total = ascending.clamp_min(0).cumsum(-1)
    low = total.masked_fill(padding, torch.inf).amin(-1, keepdim=True)
    spread = total[:, -1:] - low
    cdf = (total - low) / spread.clamp_min(torch.finfo(torch.float32).tiny)
    cdf = cdf.masked_fill(padding, -1)
    first = cdf.masked_fill(cdf <= 0, torch.inf).amin(-1, keepdim=True).clamp_max(1)
    points = first + (1 - first) * _steps(num_samples, score.device)  # B, num_samples; ascending
    # No padding: every point lies nearer to the lowest value, which is zero.
    picked = order.gather(-1, _nearest(cdf, points))
    kept = torch.zeros_like(score, dtype=torch.bool).scatter_(-1, picked, 1)  # 1: jit.trace
    equal = ~(spread > 0)  # all scores of the image are: all its tokens stay
    return kept | (valid & equal)


@cached_by_size
def _steps(count: int, device: torch.device) -> Tensor:
    return even_steps(0, 1, count, device)


def _nearest(ascending: Tensor, points: Tensor) -> Tensor:
    """Index of the value nearest to each point, the first of equals: ``(B, N), (B, K)``."""
    ascending = ascending.contiguous()
    right = torch.searchsorted(ascending, points).clamp_max(ascending.shape[-1] - 1)
    left = (right - 1).clamp_min(0)
    to_left = (points - ascending.gather(-1, left)).abs()
    to_right = (points - ascending.gather(-1, right)).abs()
    index = torch.where(to_left <= to_right, left, right)
    return torch.searchsorted(ascending, ascending.gather(-1, index))


def compact(kept: Tensor, longest: int | None = None) -> tuple[Tensor, Tensor]:
    """Indices of the kept tokens of each image, filled up to the batch's largest count.

    Args:
        kept: ``(B, N)`` mask.
        longest: Fill up to this many instead: a graph that is exported needs a fixed number.

    Returns:
        ``(index, valid)``, both ``(B, K)``: places among the N in their order; padding points at
        token 0 and is not valid. K is at least 1.
    """
    count = kept.sum(-1)
    longest = max(int(count.max()), 1) if longest is None else longest
    # Each kept token writes its number to the next place; the others to one that is cut off.
    place = (kept.long().cumsum(-1) - 1).masked_fill(~kept, longest).clamp_max(longest)
    number = torch.arange(kept.shape[1], device=kept.device).expand_as(place)
    index = place.new_zeros(kept.shape[0], longest + 1).scatter(1, place, number)[:, :longest]
    return index, torch.arange(longest, device=kept.device) < count[:, None]
