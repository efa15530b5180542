"""Overlaps of boxes. Boxes are (x1, y1, x2, y2); a side is ``x2 - x1 + offset`` long."""

from __future__ import annotations

from torch import Tensor

from .precision import working_dtype


def area(boxes: Tensor, offset: int) -> Tensor:
    """Areas of ``boxes``: (..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0] + offset) * (boxes[..., 3] - boxes[..., 1] + offset)


def intersection(a: Tensor, b: Tensor, offset: int) -> Tensor:
    """Areas that the boxes ``a`` and ``b`` share, with broadcasting: (..., 4) -> (...)."""
    low, high = a[..., :2].maximum(b[..., :2]), a[..., 2:].minimum(b[..., 2:])
    side = (high - low + offset).clamp(min=0)
    return side[..., 0] * side[..., 1]


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Write the overlaps of two sets of boxes into ``ious``.

    Two empty boxes give NaN, as with the compiled operator.

    Args:
        bboxes1: (M, 4).
        bboxes2: (N, 4); N equals M if ``aligned``.
        ious: the output: (M,) if ``aligned``, else (M, N).
        mode: 0 for intersection over union, 1 for intersection over the area of ``bboxes1``.
        aligned: compare pairs of equal index, not all with all.
        offset: 0 or 1.
    """
    dtype = working_dtype(bboxes1, bboxes2)
    a, b = bboxes1.to(dtype), bboxes2.to(dtype)
    if not aligned:
        a = a[:, None]  # M 1 4
    shared = intersection(a, b, offset)
    whole = area(a, offset)
    if mode == 0:
        whole = whole + area(b, offset) - shared
    ious.copy_(shared / whole)
