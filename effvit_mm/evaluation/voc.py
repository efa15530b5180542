"""VOC's average precision by class, of which mmdet's ``VOCMetric`` gives only the mean."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .tap import tapped

METRIC = 'mmdet.evaluation.metrics.voc_metric'


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


@contextlib.contextmanager
def recorded_voc() -> Iterator[list[VocFigures]]:
    """Collect the evaluations that mmdet's ``VOCMetric`` runs in the block."""
    found: list[VocFigures] = []

    def record(arguments: tuple, options: dict, result: Any) -> None:
        mean, classes = result
        if options.get('scale_ranges') is None:  # else there is an array for each class
            rows = tuple((float(c['ap']), _last(c['recall']), int(c['num_gts'])) for c in classes)
            found.append(VocFigures(float(options['iou_thr']), float(mean), rows))

    with contextlib.ExitStack() as stack:
        if METRIC in sys.modules:
            stack.enter_context(tapped(sys.modules[METRIC], 'eval_map', record))
        yield found


def _last(recall: np.ndarray) -> float:
    """The recall with all predictions."""
    recall = np.asarray(recall).reshape(-1)
    return float(recall[-1]) if recall.size else 0.0
