"""COCO's figures by class and size, of an evaluation that was run.

A ``COCOeval`` object (of pycocotools, or of faster-coco-eval) knows its precision for each (IoU,
recall, class, size, number of detections) and its recall for each (IoU, class, size, number).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_DETECTIONS = 100  # an image and class, by which COCO ranks detectors


@dataclass(frozen=True)
class Row:
    """Figures of all objects, or those of one size or one class; NaN with nothing to find.

    Attributes:
        name: ``'all'``, a size, or a class.
        ap: Mean of the average precision over IoU 0.50, 0.55, ... 0.95.
        ap50: Average precision at IoU 0.50.
        ap75: The same at IoU 0.75.
        recall: Mean of the recall over the IoUs, with up to 100 detections an image and class.
        count: Objects to find, crowds not among them.
    """

    name: str
    ap: float
    ap50: float
    ap75: float
    recall: float
    count: int


@dataclass(frozen=True)
class CocoFigures:
    """The figures of an evaluation.

    Attributes:
        kind: ``'bbox'`` or ``'segm'``.
        sizes: A row each for all, small, medium and large objects.
        classes: A row for each class, in the order of their ids.
    """

    kind: str
    sizes: tuple[Row, ...]
    classes: tuple[Row, ...]


def read_figures(evaluation: Any) -> CocoFigures:
    """The figures of a ``COCOeval`` that has accumulated."""
    params = evaluation.params
    truths = _truths(evaluation)
    categories = {c['id']: c['name'] for c in evaluation.cocoGt.dataset['categories']}
    counts = Counter(annotation['category_id'] for annotation in truths)
    return CocoFigures(
        kind=params.iouType,
        sizes=tuple(
            _row(evaluation, name, _count(truths, params.areaRng[area]), area=area)
            for area, name in enumerate(params.areaRngLbl)
        ),
        classes=tuple(
            _row(evaluation, categories[number], counts[number], which=index)
            for index, number in enumerate(params.catIds)
        ),
    )


def _truths(evaluation: Any) -> list[dict]:
    """The annotations that shall be found."""
    coco, params = evaluation.cocoGt, evaluation.params
    found = coco.loadAnns(coco.getAnnIds(imgIds=params.imgIds, catIds=params.catIds))
    return [annotation for annotation in found if not annotation.get('iscrowd')]


def _count(truths: Sequence[dict], bounds: Sequence[float]) -> int:
    """Those of a size: bounds belong to both neighbours, as in COCO."""
    return sum(bounds[0] <= annotation['area'] <= bounds[1] for annotation in truths)


def _row(evaluation: Any, name: str, count: int, which=slice(None), area: int = 0) -> Row:
    """Of a class, or of all classes in a range of areas."""
    limit = _limit(evaluation.params.maxDets, MAX_DETECTIONS)
    limit = -1 if limit is None else limit
    precision = evaluation.eval['precision'][:, :, which, area, limit]
    recall = evaluation.eval['recall'][:, which, area, limit]
    at = [mean_of(precision[_iou_index(evaluation, iou)]) for iou in (0.5, 0.75)]
    return Row(str(name), mean_of(precision), *at, mean_of(recall), count)


def _limit(limits: Sequence[int], wanted: int) -> int | None:
    return list(limits).index(wanted) if wanted in limits else None


def _iou_index(evaluation: Any, iou: float) -> slice:
    """Where an IoU stands; an empty slice where it was not evaluated."""
    found = np.flatnonzero(np.isclose(np.atleast_1d(evaluation.params.iouThrs), iou))
    return slice(found[0], found[0] + 1) if len(found) else slice(0, 0)


def mean_of(values: np.ndarray) -> float:
    """The mean of an evaluation's figures, NaN of none; COCO marks what does not exist with -1."""
    values = values[values > -1]
    return float(values.mean()) if values.size else float('nan')
