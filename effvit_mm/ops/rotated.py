"""Overlaps and suppression of rotated boxes (centre x, centre y, width, height, angle in radians).

The shared part of two boxes is convex: its corners are those of each box inside the other and the
points where sides cross. Computed in float64 with a tolerance, so that boxes with common corners or
sides come out right, of which compiled operators in float32 may lose a part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .nms import greedy_groups
from .precision import round_to, working_dtype

TOLERANCE = 1e-9  # relative to the sides
SMALLEST_AREA = 1e-14  # the compiled operators' too: below it nothing overlaps
PAIRS_AT_ONCE = 2**16  # bounds the memory


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Write the overlaps of two sets of rotated boxes into ``ious``.

    Args:
        boxes1: (M, 5).
        boxes2: (N, 5); N equals M if ``aligned``.
        ious: the output: (M,) if ``aligned``, else (M * N,) or (M, N).
        mode_flag: 0 for intersection over union, 1 for intersection over the area of ``boxes1``.
        aligned: compare pairs of equal index, not all with all.
    """
    a, b = boxes1.double(), boxes2.double()
    if not aligned:
        a, b = a.repeat_interleave(len(b), 0), b.repeat(len(a), 1)
    area_a, area_b = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
    shared = intersection(a, b)
    whole = area_a + area_b - shared if mode_flag == 0 else area_a
    empty = (area_a < SMALLEST_AREA) | (area_b < SMALLEST_AREA)
    ious.copy_((shared / whole).masked_fill(empty, 0).view_as(ious))


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Indices of the rotated boxes that no better box overlaps by ``iou_threshold`` or more.

    As with the compiled operators an overlap equal to the threshold suppresses on the CPU, not on
    CUDA, and labels have no effect: ``batched_nms`` keeps classes apart.

    Args:
        dets: (N, 5), or (N, 6) with labels.
        scores: (N,).
        order, dets_sorted, labels, multi_label: of no effect.
        iou_threshold: an overlap above it suppresses.

    Returns:
        Indices (K,), int64, best score first.
    """
    dtype = working_dtype(dets, scores)
    boxes = dets[:, :5].to('cpu', dtype)

    def overlap(best: Tensor, others: Tensor) -> Tensor:
        ious = boxes.new_empty(len(others))
        box_iou_rotated(boxes[best].expand(len(others), 5), boxes[others], ious, 0, aligned=True)
        return ious

    threshold = round_to(iou_threshold, dtype)
    groups = greedy_groups(scores.to('cpu', dtype), overlap, threshold, not dets.is_cuda)
    return torch.stack([group[0] for group in groups]).to(dets.device)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Areas that pairs of rotated boxes share: (P, 5) twice, float64 -> (P,)."""
    reach = (a[:, 2:4].norm(dim=1) + b[:, 2:4].norm(dim=1)) / 2
    near = ((a[:, :2] - b[:, :2]).norm(dim=1) < reach).nonzero()[:, 0]
    shared = a.new_zeros(len(a))
    for part in near.split(PAIRS_AT_ONCE):
        shared[part] = _convex_area(*_shared_corners(a[part], b[part]))
    return shared


def _corners(boxes: Tensor, centre: Tensor) -> Tensor:
    """Corners of boxes in turn, seen from ``centre``: (P, 5), (P, 2) -> (P, 4, 2)."""
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    width = torch.stack((cos, sin), 1) * boxes[:, 2, None] / 2
    height = torch.stack((-sin, cos), 1) * boxes[:, 3, None] / 2
    sides = torch.stack((-width - height, width - height, width + height, height - width), 1)
    return (boxes[:, :2] - centre)[:, None] + sides


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _shared_corners(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Where corners of the shared part may lie, and whether they do: (P, 24, 2), (P, 24)."""
    middle = (a[:, :2] + b[:, :2]) / 2  # small numbers lose less
    a, b = _corners(a, middle), _corners(b, middle)
    side_a, side_b = a.roll(-1, 1) - a, b.roll(-1, 1) - b  # P 4 2
    along_a, along_b = side_a[:, :, None], side_b[:, None]  # P 4 1 2, P 1 4 2
    between = b[:, None] - a[:, :, None]  # P 4 4 2
    turn = _cross(along_a, along_b)
    lengths = along_a.norm(dim=-1) * along_b.norm(dim=-1)
    parallel = turn.abs() <= TOLERANCE * lengths
    turn = turn.masked_fill(parallel, 1)
    on_a, on_b = _cross(between, along_b) / turn, _cross(between, along_a) / turn
    crossings = a[:, :, None] + along_a * on_a[..., None]
    cross = _within(on_a, 1) & _within(on_b, 1) & ~parallel
    return (
        torch.cat((crossings.flatten(1, 2), a, b), 1),
        torch.cat((cross.flatten(1), _inside(a, b, side_b), _inside(b, a, side_a)), 1),
    )


def _within(value: Tensor, end: Tensor | float) -> Tensor:
    """Whether values lie in [0, end], within the tolerance."""
    return (value >= -TOLERANCE * end) & (value <= (1 + TOLERANCE) * end)


def _inside(points: Tensor, corners: Tensor, sides: Tensor) -> Tensor:
    """Whether points lie in a box of these corners and sides: (P, 4, 2) thrice -> (P, 4)."""
    from_corner = points - corners[:, :1]
    first, second = sides[:, :1], -sides[:, 3:]  # the two sides that begin in the first corner
    return _within((from_corner * first).sum(-1), first.square().sum(-1)) & _within(
        (from_corner * second).sum(-1), second.square().sum(-1)
    )


def _convex_area(points: Tensor, valid: Tensor) -> Tensor:
    """Area of the convex polygons whose corners are the valid points: (P, K, 2), (P, K) -> (P,)."""
    count = valid.sum(1)
    middle = (points * valid[..., None]).sum(1) / count.clamp(min=1)[:, None]
    points = points - middle[:, None]
    # Others take the place of a valid one: corners that are there twice change no area.
    one = points.gather(1, valid.to(torch.uint8).argmax(1)[:, None, None].expand(-1, 1, 2))
    points = points.where(valid[..., None], one)
    order = torch.atan2(points[..., 1], points[..., 0]).argsort(1)
    points = points.gather(1, order[..., None].expand_as(points))
    return (_cross(points, points.roll(-1, 1)).sum(1) / 2).masked_fill(count < 3, 0)
