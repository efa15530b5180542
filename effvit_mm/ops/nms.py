"""Suppression of boxes that overlap a better one: greedy, soft, and with the groups kept.

Boxes are (x1, y1, x2, y2); a side is ``x2 - x1 + offset`` long. Equal scores rank by index.
Soft-NMS: Bodla et al., Soft-NMS: Improving Object Detection With One Line of Code, ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .boxes import area, intersection
from .precision import round_to, working_dtype

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that no better box overlaps by more than ``iou_threshold``.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: an overlap above it suppresses.
        offset: 0 (torchvision's operator) or 1 (a loop over the kept boxes, on the CPU).

    Returns:
        Indices (K,), int64, best score first.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    dtype = working_dtype(boxes, scores)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    threshold = round_to(iou_threshold, dtype)
    if offset == 0:
        import torchvision  # here: with it comes PyTorch's compiler, two seconds

        return torchvision.ops.nms(boxes, scores, threshold)
    # Adding 1 to x2 and y2 instead would round differently, which decides near the threshold.
    groups = greedy_groups(
        scores.cpu(), _overlap_of(boxes.cpu(), offset), threshold, inclusive=False
    )
    return torch.stack([group[0] for group in groups]).to(boxes.device)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Groups of boxes: one that greedy suppression keeps, then those which it suppresses.

    Unlike :func:`nms`, an overlap equal to ``iou_threshold`` suppresses, too.

    Args:
        dets: (N, 5): boxes and scores.
        iou_threshold: the smallest overlap that suppresses.

    Returns:
        Lists of indices, best score first, in each list, too.
    """
    dtype = working_dtype(dets)
    dets = dets.to('cpu', dtype)
    threshold = round_to(iou_threshold, dtype)
    groups = greedy_groups(dets[:, 4], _overlap_of(dets[:, :4], 0), threshold, inclusive=True)
    return [group.tolist() for group in groups]


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft suppression: a box loses score by its overlap with each better one.

    Args:
        boxes: (N, 4).
        scores: (N,).
        dets: (N, 5), the output: boxes and their new scores in the first K rows.
        iou_threshold: smallest overlap that costs score (not for the gaussian method).
        sigma: width of the gaussian method.
        min_score: a box is dropped when an overlap leaves it less than this.
        method: 0 naive (score to zero), 1 linear (times 1 - IoU),
            2 gaussian (times exp(-IoU^2 / sigma)).
        offset: 0 or 1.

    Returns:
        Indices (K,), int64, of the boxes kept, in the order of selection.
    """
    dtype = working_dtype(boxes, scores)
    kept = boxes.to('cpu', dtype)
    kept_scores = scores.to('cpu', dtype, copy=True)
    rest = torch.arange(len(kept))
    areas = area(kept, offset)
    order, threshold = [], round_to(iou_threshold, dtype)
    while len(rest):
        best = _first_maximum(kept_scores[rest])
        box = rest[best].clone()
        # The head takes the chosen one's place: among equal scores, places decide who is next.
        rest[best] = rest[0]
        rest = rest[1:]
        order.append(box)
        shared = intersection(kept[box], kept[rest], offset)
        overlap = shared / (areas[box] + areas[rest] - shared)
        kept_scores[rest] *= _decay(overlap, method, threshold, sigma)
        # Not the same as `>=`: a score that is not a number (two empty boxes) stays.
        rest = _fill_from_the_end(rest, ~(kept_scores[rest] < round_to(min_score, dtype)))
    index = torch.stack(order) if order else torch.empty(0, dtype=torch.long)
    dets[: len(index)] = torch.cat((kept[index], kept_scores[index, None]), 1).to(dets)
    return index.to(boxes.device)


def greedy_groups(
    scores: Tensor,
    overlap: Callable[[Tensor, Tensor], Tensor],
    threshold: float,
    inclusive: bool,
) -> list[Tensor]:
    """Kept boxes, each followed by those that it suppresses; everything on the CPU.

    Args:
        scores: (N,).
        overlap: Gives that of a box with others, all by index: (), (K,) -> (K,).
        threshold: What suppresses: more, or with ``inclusive`` as much.
        inclusive: See ``threshold``.
    """
    rest = scores.argsort(descending=True, stable=True)
    groups = []
    while len(rest):
        best, others = rest[0], rest[1:]
        shared = overlap(best, others)
        gone = shared >= threshold if inclusive else shared > threshold
        groups.append(torch.cat((rest[:1], others[gone])))
        rest = others[~gone]
    return groups


def _overlap_of(boxes: Tensor, offset: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Intersection over union of a box with others, by index."""
    areas = area(boxes, offset)

    def overlap(best: Tensor, others: Tensor) -> Tensor:
        shared = intersection(boxes[best], boxes[others], offset)
        return shared / (areas[best] + areas[others] - shared)

    return overlap


def _decay(overlap: Tensor, method: int, threshold: float, sigma: float) -> Tensor:
    """What is left of the score of boxes with these overlaps: (N,) -> (N,)."""
    if method == GAUSSIAN:
        return torch.exp(-(overlap * overlap) / sigma)
    if method not in (NAIVE, LINEAR):
        raise ValueError(f'method must be 0 (naive), 1 (linear) or 2 (gaussian), got {method}')
    left = 1 - overlap if method == LINEAR else torch.zeros_like(overlap)
    return torch.where(overlap >= threshold, left, torch.ones_like(overlap))


def _first_maximum(scores: Tensor) -> int:
    """Place of the first largest score, where nothing is larger than a leading NaN."""
    if scores[0].isnan():
        return 0
    return int(scores.nan_to_num(nan=float('-inf')).argmax())


def _fill_from_the_end(items: Tensor, keep: Tensor) -> Tensor:
    """``items[keep]``, each gap filled with the last item left: this fixes the order of ties."""
    size = int(keep.sum())
    head = items[:size].clone()
    head[~keep[:size]] = items[size:][keep[size:]].flip(0)
    return head
