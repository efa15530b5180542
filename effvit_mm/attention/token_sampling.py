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
import torch.nn.functional as F
from torch import Tensor

from .sizes import smaller


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


def sample_tokens(
    score: Tensor, num_samples: int, valid: Tensor | None = None, budget: int | None = None
) -> tuple[Tensor, Tensor]:
    """Choose tokens by inverse transform sampling, the most significant first.

    Args:
        score: ``(B, N)``, non-negative; see :func:`significance`.
        num_samples: Points of the cumulative distribution that are looked up: an upper bound on
            the tokens kept. May be above or below N.
        valid: ``(B, N)``: padding is never kept.
        budget: Keep no more than these; None is no bound. The least significant are left out.

    Returns:
        ``(index, valid)``, both ``(B, K)``: places among the N, and False behind the last that an
        image keeps. K is the largest number that an image of the batch keeps; in a graph that is
        exported the budget, or ``num_samples`` without one, and N at most.

    Images whose tokens cannot be told apart (one token, all scores zero) keep all.
    """
    if num_samples < 1:
        raise ValueError(f'num_samples={num_samples}: 1 or more is needed')
    if valid is not None:
        score = score.masked_fill(~valid, -1)  # sorts to the front, where no sample point comes
    ascending, order = score.sort(dim=-1, stable=True)
    kept = _near_points(ascending, num_samples)
    places = score.shape[1] if budget is None else smaller(budget, score.shape[1])
    if torch.compiler.is_compiling():
        places = smaller(num_samples, places)
    else:
        places = min(max(int(kept.sum(-1).max()), 1), places)
    best, rank = ascending.masked_fill(~kept, -1).topk(places, dim=-1)
    return order.gather(-1, rank), best >= 0


def _near_points(ascending: Tensor, num_samples: int) -> Tensor:
    """Which of the scores ``(B, N)`` are the nearest to a sample point, the first of equals.

    Points lie evenly from the smallest positive to the largest value of the cumulative sum, the
    smallest score being its zero. Measured in steps between points, a token is near to all of them
    from the middle between it and the one before to the middle behind it. Scores below zero are
    padding.
    """
    padding, infinity = ascending < 0, torch.inf
    low = ascending.masked_fill(padding, infinity).amin(-1, keepdim=True)
    total = ascending.clamp_min(0).cumsum(-1) - low
    first = total.masked_fill(total <= 0, infinity).amin(-1, keepdim=True)
    steps = num_samples - 1 or 0.5  # a single point lies at the first: any part of a step
    length = (total[:, -1:] - first).clamp_min(torch.finfo(torch.float32).tiny)
    total = (total - first) / length * steps
    middle = (total + torch.cat([total[:, 1:], total[:, -1:]], 1)) / 2
    point = middle.floor().clamp_min(-1)  # the last one up to there, from 0
    near = point > F.pad(point[:, :-1], (1, 0), value=-1)
    equal = first.isinf()  # all scores of the image are: all its tokens stay
    return near | (equal & ~padding)
