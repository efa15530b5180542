"""Pictures of OpenMMLab's samples: what a data set gives, and predictions beside the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Normalize
from mmengine.structures import BaseDataElement, InstanceData

from ..visualization.pictures import (
    MIN_SIDE,
    as_bytes,
    draw_classification,
    draw_objects,
    enlarge,
    read_rgb,
    side_by_side,
    write_tag,
)

MIN_SCORE = 0.3  # of predictions that are drawn


def draw_samples(dataset: Any, indices: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
    """``(name, picture)`` of samples of a classification or detection set, as its pipeline gives
    them, with the truth drawn in; RGB."""
    inner = dataset
    while not hasattr(inner, 'pipeline') and (hasattr(inner, 'dataset') or _parts(inner)):
        inner = inner.dataset if hasattr(inner, 'dataset') else _parts(inner)[0]
    undo = normalization(getattr(getattr(inner, 'pipeline', None), 'transforms', ()))
    for index in indices:
        item = dataset[index]
        inputs, sample = item['inputs'], item['data_samples']
        if isinstance(inputs, list | tuple):  # several views of an image
            inputs, sample = inputs[0], sample[0] if isinstance(sample, list | tuple) else sample
        picture, meta = as_bytes(inputs.numpy(), **undo), dataset.metainfo
        if 'gt_instances' in sample:
            picture = _with_objects(picture, sample.gt_instances, meta)
        elif 'gt_label' in sample:
            label = _label(sample, 'gt_label')
            picture = enlarge(picture, -(-MIN_SIDE // min(picture.shape[:2])))
            write_tag(picture, _name(label, meta.get('classes')))
        path = sample.metainfo.get('img_path')
        yield f'{index:06d}_{Path(path).stem}' if path else f'{index:06d}', picture


def normalization(pipeline: Sequence[object]) -> dict[str, Any]:
    """Mean, standard deviation and channel order that a pipeline has applied."""
    for step in pipeline:
        if isinstance(step, Normalize):
            return {'mean': step.mean, 'std': step.std, 'is_rgb': bool(step.to_rgb)}
    return {}


def _parts(dataset: Any) -> list:
    return list(getattr(dataset, 'datasets', ()))


def draw_prediction(
    image: np.ndarray, sample: BaseDataElement, names: Sequence[str] | None
) -> tuple[bool, np.ndarray]:
    """A classifier's result.

    Args:
        image: (H, W, 3) uint8, RGB.
        sample: With ``pred_label``, ``pred_score`` and ``gt_label``.
        names: Of the classes.

    Returns:
        Whether it is right, and the picture with the predicted and the true class below, RGB.
    """
    predicted, true = _label(sample, 'pred_label'), _label(sample, 'gt_label')
    scores = sample.get('pred_score')
    score = '' if scores is None or predicted is None else f' ({float(scores[predicted]):.2f})'
    right = predicted == true
    text = _name(predicted, names) + score
    return right, draw_classification(image, text, _name(true, names), right)


def draw_detection(
    image: np.ndarray,
    sample: BaseDataElement,
    meta: Mapping[str, Any],
    truth: InstanceData | None = None,
) -> np.ndarray:
    """A detector's result.

    Args:
        image: (H, W, 3) uint8, RGB.
        sample: With ``pred_instances``, in pixels of the image file.
        meta: Of the data set: ``classes``, ``palette``.
        truth: Boxes, labels and masks in pixels of the file, see :func:`load_truth`.

    Returns:
        The truth at the left, where it is given, and what was predicted at the right; RGB.
    """
    shape = tuple(sample.get('ori_shape', image.shape)[:2])
    if image.shape[:2] != shape:  # boxes are in the file's pixels
        image = cv2.resize(image, shape[::-1])
    predicted = sample.pred_instances.cpu()
    if 'scores' in predicted:
        predicted = predicted[predicted.scores >= MIN_SCORE]
    shown = {} if truth is None else {'truth': truth}
    shown[f'predicted (>= {MIN_SCORE:g})'] = predicted
    pictures = [_with_objects(image, objects, meta) for objects in shown.values()]
    return side_by_side(pictures, list(shown))


def _with_objects(image: np.ndarray, objects: InstanceData, meta: Mapping) -> np.ndarray:
    boxes, masks = objects.get('bboxes'), objects.get('masks')
    boxes = torch.as_tensor(getattr(boxes, 'tensor', boxes))
    masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks
    palette = meta.get('palette')
    return draw_objects(
        image,
        boxes.numpy(),
        torch.as_tensor(objects.labels).tolist(),
        objects.get('scores'),
        None if masks is None else np.asarray(masks),
        meta.get('classes'),
        palette if isinstance(palette, list | tuple) else None,
    )


def load_truth(dataset: Any, index: int, with_masks: bool) -> InstanceData | None:
    """The objects of an image in pixels of its file, crowds left out; None if not known.

    Read from the data set itself: a test's pipeline need not load them, and may scale them.
    """
    from mmdet.datasets.transforms import LoadAnnotations

    info = dataset.get_data_info(index) if hasattr(dataset, 'get_data_info') else {}
    if 'instances' not in info:
        return None
    with_masks = with_masks and all('mask' in item for item in info['instances'])
    info['ori_shape'] = (info['height'], info['width'])
    info = LoadAnnotations(with_bbox=True, with_mask=with_masks, box_type=None)(info)
    truth = InstanceData(
        bboxes=torch.as_tensor(info['gt_bboxes']).reshape(-1, 4),
        labels=torch.as_tensor(info['gt_bboxes_labels']),
    )
    if with_masks:
        truth.masks = info['gt_masks'].to_ndarray()
    return truth[torch.as_tensor(~info['gt_ignore_flags'])]


def read_image(sample: BaseDataElement, data_batch: Any, index: int) -> np.ndarray:
    """The file as it is where there is one, else what the network was given: (H, W, 3), RGB."""
    path = sample.get('img_path')
    if path and Path(path).is_file():
        return read_rgb(path)
    inputs = data_batch['inputs'][index]
    inputs = inputs[0] if isinstance(inputs, list | tuple) else inputs
    return as_bytes(inputs.cpu().numpy())


def _label(sample: BaseDataElement, key: str) -> int | None:
    value = sample.get(key)
    return None if value is None else int(torch.as_tensor(value).reshape(-1)[0])


def _name(label: int | None, names: Sequence[str] | None) -> str:
    if label is None:
        return 'unknown'
    return str(names[label]) if names and label < len(names) else str(label)
