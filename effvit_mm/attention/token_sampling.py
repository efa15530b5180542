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

from .sizes import is_recorded, smaller


class TokenState(NamedTuple):
    """Which tokens a batch still has.

    Attributes:
        place: ``(B, extra + N)`` place of each token in the full row: the extra tokens, then the
            map, row by row; ``extra + total``, behind the last, where an image has fewer than N.
        valid: ``(B, N)``, False at those.
        extra: Class and distillation tokens in front.
        total: Tokens of the full map.
    """

    place: Tensor
    valid: Tensor
    extra: int
    total: int

    def row_valid(self) -> Tensor:
        """``(B, extra + N)``, False where a row is padding."""
        return F.pad(self.valid, (self.extra, 0), value=True)


def significance(class_attention: Tensor, v: Tensor) -> Tensor:
    """How much each token matters, as far as sampling asks, which looks at ratios: ``(B, N)``.

    Args:
        class_attention: ``(B, heads, N)`` attention from the class token.
        v: ``(B, heads, N, e)`` values.
    """
    length = torch.linalg.vector_norm(v.float(), dim=(1, 3))  # of the heads' values joined
    return class_attention.float().sum(1) * length


def sample_tokens(
    score: Tensor, num_samples: int, valid: Tensor | None = None, budget: int | None = None
) -> tuple[Tensor, Tensor]:
    """Choose tokens by inverse transform sampling, the most significant first.

    Args:
        score: ``(B, N)``, non-negative; see :func:`significance`.
        num_samples: Points of the cumulative distribution that are looked up: an upper bound on
            the tokens kept. May be above or below N.
        valid: ``(B, N)``: padding is never kept, whatever its score.
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
        score = score.masked_fill(~valid, torch.inf)  # sorts behind all
    ascending, order = score.sort(dim=-1)
    drawn = ascending.masked_fill(~_near_points(ascending, num_samples), -1)
    places = score.shape[1] if budget is None else smaller(budget, score.shape[1])
    if is_recorded():
        places = smaller(num_samples, places)
    else:
        places = min(max(int((drawn >= 0).sum(-1).max()), 1), places)
    best, rank = drawn.topk(places, dim=-1)
    return order.gather(-1, rank), best >= 0


def _near_points(ascending: Tensor, num_samples: int) -> Tensor:
    """Which of the scores ``(B, N)`` are the nearest to a sample point, the first of equals.

    Points lie evenly on the cumulative sum, from its second value to its last. In steps between
    points, a token is near to all of them from the middle between it and the one before up to the
    middle behind it. Infinite scores are padding, which has no length.
    """
    padding = ascending == torch.inf
    score = ascending.masked_fill(padding, 0)
    total = score.cumsum(-1)
    first = total.masked_fill(total <= total[:, :1], torch.inf).amin(-1, keepdim=True)
    length = (total[:, -1:] - first).clamp_min(torch.finfo(torch.float32).tiny)
    steps = num_samples - 1 or 0.5  # a single point lies at the first: any part of a step
    behind = F.pad(score, (-1, 1)) / 2  # half of the way to the next token
    middle = (total - first + behind) / length * steps
    point = middle.floor().clamp_min(-1)  # the last one up to there, from 0
    near = point > F.pad(point, (1, -1), value=-1)
    equal = first == torch.inf  # all scores of the image are: all its tokens stay
    return near | (equal & ~padding)
