"""From files to :class:`~.detection_errors.ImageResult`: COCO annotations and predictions.

Needs only numpy, and pycocotools for masks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from .detection_errors import ImageResult

SHAPES = {'bbox': 'bbox', 'segm': 'segmentation'}  # by kind, COCO's key


def to_coco_results(
    predictions: Sequence[Mapping], category_ids: Sequence[int], kind: str = 'bbox'
) -> list[dict]:
    """What ``test.py --out`` wrote as COCO results, number for number as mmdet makes them.

    COCO results are given back as they are. Categories are by label. Of ``'segm'`` there are no
    boxes, whose areas COCO would take for those of the masks.

    Raises:
        DataError: Not of a detector, a label without a category, or no masks.
    """
    if predictions and 'pred_instances' not in predictions[0]:
        _check_results(predictions, kind)
        return [dict(item) for item in predictions]
    results = []
    for image in predictions:
        found = image['pred_instances']
        if kind == 'segm' and 'masks' not in found:
            raise DataError('the predictions have no masks: they are of a detector of boxes')
        scores = found.get('mask_scores', found['scores']) if kind == 'segm' else found['scores']
        for index, (label, score) in enumerate(zip(found['labels'], scores, strict=True)):
            if not 0 <= int(label) < len(category_ids):
                raise DataError(
                    f'predictions of image {image["img_id"]}: label {int(label)}, but the config '
                    f'has {len(category_ids)} classes'
                )
            item = {
                'image_id': image['img_id'],
                'category_id': category_ids[int(label)],
                'score': float(score),
            }
            if kind == 'segm':
                item['segmentation'] = dict(found['masks'][index])
            else:
                left, top, right, bottom = (float(x) for x in found['bboxes'][index])
                item['bbox'] = [left, top, right - left, bottom - top]
            results.append(item)
    return results


def _check_results(results: Sequence[Mapping], kind: str) -> None:
    needed = ('image_id', 'category_id', 'score', SHAPES[kind])
    for place, item in enumerate(results):
        missing = [key for key in needed if key not in item]
        if missing:
            has = ', '.join(map(str, item)) or 'nothing'
            raise DataError(f'predictions, item {place}: no {missing[0]!r}, only {has}')


def collect(
    data: Mapping[str, Any],
    results: Sequence[Mapping],
    category_ids: Sequence[int],
    kind: str = 'bbox',
) -> list[ImageResult]:
    """Objects of an annotation file and COCO results by image, in the order of the images' ids.

    Objects of other categories than ``category_ids`` are left out.

    Raises:
        DataError: A result names an image or category that there is not.
    """
    sizes = {image['id']: (image['height'], image['width']) for image in data['images']}
    label_of = {number: label for label, number in enumerate(category_ids)}
    _check_known(results, 'image_id', sizes)
    _check_known(results, 'category_id', label_of)
    objects, predictions = defaultdict(list), defaultdict(list)
    for item in data['annotations']:
        if item['category_id'] in label_of:
            objects[item['image_id']].append(item)
    for item in results:
        predictions[item['image_id']].append(item)
    images = []
    for number in sorted(sizes):
        own, found = objects[number], predictions[number]
        crowds = np.array([bool(item.get('iscrowd')) for item in own], bool)
        images.append(
            ImageResult(
                truths=np.array([label_of[item['category_id']] for item in own], int),
                crowds=crowds,
                labels=np.array([label_of[item['category_id']] for item in found], int),
                scores=np.array([item['score'] for item in found], float),
                overlaps=_overlaps(found, own, crowds, kind, sizes[number]),
            )
        )
    return images


def _check_known(results: Sequence[Mapping], key: str, known: Mapping) -> None:
    unknown = sorted({item[key] for item in results} - known.keys(), key=str)
    if unknown:
        more = f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''
        raise DataError(
            f'predictions: {key} {unknown[0]!r}{more} not in the annotation file (it has '
            f'{len(known)}); are they of another data set?'
        )


def _overlaps(
    found: Sequence[Mapping],
    own: Sequence[Mapping],
    crowds: np.ndarray,
    kind: str,
    size: tuple[int, int],
) -> np.ndarray:
    if not found or not own:
        return np.zeros((len(found), len(own)))
    if kind == 'bbox':
        boxes = (np.array([item['bbox'] for item in items], float) for items in (found, own))
        return box_overlaps(*boxes, crowds)
    from pycocotools.mask import iou

    masks = ([_to_rle(item['segmentation'], size) for item in items] for items in (found, own))
    return np.asarray(iou(*masks, crowds.astype(np.uint8).tolist()))


def _to_rle(segmentation: Any, size: tuple[int, int]) -> dict:
    """Polygons or run lengths, compressed or not, as compressed run lengths."""
    from pycocotools.mask import frPyObjects, merge

    if isinstance(segmentation, list):
        return merge(frPyObjects(segmentation, *size))
    if isinstance(segmentation['counts'], list):
        return frPyObjects(segmentation, *size)
    return segmentation


def box_overlaps(found: np.ndarray, own: np.ndarray, crowds: np.ndarray) -> np.ndarray:
    """(D, G) IoU of boxes (left, top, width, height); with a crowd the share of the prediction."""
    low = np.maximum(found[:, None, :2], own[None, :, :2])
    high = np.minimum(found[:, None, :2] + found[:, None, 2:], own[None, :, :2] + own[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = found[:, 2:].prod(-1)[:, None]
    union = np.where(crowds, areas, areas + own[:, 2:].prod(-1) - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
