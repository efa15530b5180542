"""A config's COCO metric against pycocotools itself, on the same predictions."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from effvit_mm.evaluation.coco import mean_of
from effvit_mm.evaluation.coco_results import to_coco_results

# COCO's twelve: name, whether precision (else recall), IoU, size, detections an image and class.
TWELVE = (
    ('AP', True, None, 'all', 100),
    ('AP50', True, 0.5, 'all', 100),
    ('AP75', True, 0.75, 'all', 100),
    ('APs', True, None, 'small', 100),
    ('APm', True, None, 'medium', 100),
    ('APl', True, None, 'large', 100),
    ('AR@1', False, None, 'all', 1),
    ('AR@10', False, None, 'all', 10),
    ('AR@100', False, None, 'all', 100),
    ('ARs', False, None, 'small', 100),
    ('ARm', False, None, 'medium', 100),
    ('ARl', False, None, 'large', 100),
)


def read_twelve(evaluation: Any) -> dict[str, float]:
    """COCO's twelve figures by name; NaN where the evaluation does not have one."""
    return {name: _figure(evaluation, *which) for name, *which in TWELVE}


def _figure(evaluation: Any, is_precision: bool, iou: float | None, area: str, most: int) -> float:
    params = evaluation.params
    if most not in params.maxDets:
        return float('nan')
    values = evaluation.eval['precision' if is_precision else 'recall']
    if iou is not None:
        values = values[np.isclose(params.iouThrs, iou)]
    where = list(params.areaRngLbl).index(area), list(params.maxDets).index(most)
    return mean_of(values[(..., *where)])


def run_metric(metric: Any, predictions: Sequence[Mapping]) -> dict[str, Any]:
    """The ``COCOeval`` objects by kind, when a metric of mmdet judges predictions from a file.

    Args:
        metric: ``effvit_mm.CocoMetric`` with ``dataset_meta`` set.
        predictions: As ``test.py --out`` writes them.
    """
    metric.process({}, [_to_sample(image) for image in predictions])
    metric.evaluate(len(predictions))
    return metric.evaluations


def _to_sample(image: Mapping) -> dict:
    """What a detector gives to metrics; a file has lists."""
    found = dict(image['pred_instances'])
    found['bboxes'] = torch.as_tensor(found['bboxes'], dtype=torch.float32).reshape(-1, 4)
    found['labels'] = torch.as_tensor(found['labels'], dtype=torch.long)
    for key in ('scores', 'mask_scores'):
        if key in found:
            found[key] = torch.as_tensor(found[key], dtype=torch.float32)
    if 'masks' in found:
        found['masks'] = [dict(mask) for mask in found['masks']]
    return {**image, 'pred_instances': found}


def run_pycocotools(
    ann_file: str | Path, predictions: Sequence[Mapping], category_ids: Sequence[int], kind: str
) -> Any:
    """pycocotools' ``COCOeval`` with its own settings, accumulated."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = to_coco_results(predictions, category_ids, kind)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ann_file))
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.params.catIds = list(category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def compare(ours: Any, theirs: Any) -> list[tuple[str, float, float]]:
    """``(name, ours, theirs)``: COCO's twelve figures and the AP of each class.

    Theirs are the twelve that pycocotools gives out itself; what does not exist is NaN in both.
    """
    twelve = read_twelve(ours)
    rows = [
        (name, twelve[name], float(value) if value > -1 else float('nan'))
        for name, value in zip(twelve, theirs.stats, strict=True)
    ]
    by_class = [_class_precision(evaluation) for evaluation in (ours, theirs)]
    names = {c['id']: c['name'] for c in theirs.cocoGt.dataset['categories']}
    for number in by_class[1]:
        values = (found.get(number, float('nan')) for found in by_class)
        rows.append((f'AP of {names[number]}', *values))
    return rows


def _class_precision(evaluation: Any) -> dict[int, float]:
    limit = list(evaluation.params.maxDets).index(100)
    precision = evaluation.eval['precision'][:, :, :, 0, limit]
    return {
        int(number): float(precision[..., k].mean()) if (precision[..., k] > -1).all() else np.nan
        for k, number in enumerate(evaluation.params.catIds)
    }


def largest_difference(rows: Sequence[tuple[str, float, float]]) -> float:
    """Over all rows; infinite where only one side has a figure."""
    pairs = np.array([row[1:] for row in rows], float).reshape(-1, 2)
    exists = ~np.isnan(pairs)
    if (exists[:, 0] != exists[:, 1]).any():
        return float('inf')
    return float(np.abs(pairs[:, 0] - pairs[:, 1])[exists[:, 0]].max(initial=0.0))
