"""VOC's average precision by class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VocFigures:
    """An evaluation at one IoU.

    Attributes:
        iou: From which on a prediction is right.
        mean: Of the average precisions of the classes that occur.
        classes: For each class its average precision, recall and number of objects.
    """

    iou: float
    mean: float
    classes: tuple[tuple[float, float, int], ...]
