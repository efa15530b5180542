"""Pictures of predictions beside the truth: of a classifier and of a detector."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from ..utils.images import load_image
from .browse import GAP, MIN_SIDE, to_picture

if TYPE_CHECKING:
    from mmengine.structures import BaseDataElement, InstanceData

LINE_HEIGHT, MIN_WIDTH = 18, 224
MIN_SCORE = 0.3  # of predictions that are drawn
BLACK, GREEN, RED = (0, 0, 0), (0, 120, 0), (200, 0, 0)


def draw_classification(
    image: np.ndarray, sample: BaseDataElement, names: Sequence[str] | None
) -> tuple[bool, np.ndarray]:
    """Draw a classifier's result.

    Args:
        image: (H, W, 3) uint8, RGB.
        sample: With ``pred_label``, ``pred_score`` and ``gt_label``.
        names: Of the classes.

    Returns:
        Whether it is right, and the picture with the predicted and the true class below, RGB.
    """
    predicted, true = _label(sample, 'pred_label'), _label(sample, 'gt_label')
    right = predicted == true
    lines = [
        f'predicted: {_name(predicted, names)} {_score(sample, predicted)}',
        f'true: {_name(true, names)}',
    ]
    factor = max(1, round(MIN_WIDTH / image.shape[1]))
    return right, _with_text(_enlarged(image, factor), lines, GREEN if right else RED)


def draw_detection(
    image: np.ndarray,
    sample: BaseDataElement,
    meta: Mapping[str, Any],
    truth: InstanceData | None = None,
) -> np.ndarray:
    """Draw a detector's result.

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
    factor = math.ceil(MIN_SIDE / min(shape))
    image = np.ascontiguousarray(_enlarged(image, factor))
    predicted = sample.pred_instances.cpu()
    if 'scores' in predicted:
        predicted = predicted[predicted.scores >= MIN_SCORE]
    halves = [(f'predicted (>= {MIN_SCORE:g})', predicted)]
    if truth is not None:
        halves.insert(0, ('truth', truth))
    visualizer = _visualizer()
    drawn = []
    with _as_main_process():
        for title, objects in halves:
            half = visualizer._draw_instances(
                image, _scaled(objects, factor, shape), meta.get('classes'), meta.get('palette')
            )
            drawn += [_with_text(half, [title], BLACK)]
            drawn += [np.full((len(drawn[-1]), GAP, 3), 255, np.uint8)]
    return np.concatenate(drawn[:-1], axis=1)


@functools.cache
def _visualizer():
    from mmdet.visualization import DetLocalVisualizer

    return DetLocalVisualizer(line_width=2, alpha=0.8)


@contextmanager
def _as_main_process() -> Iterator[None]:
    """Let each rank draw its own images: mmengine's visualizer does nothing but on the first."""
    from mmengine.dist import utils

    original = utils.is_main_process
    utils.is_main_process = lambda group=None: True
    try:
        yield
    finally:
        utils.is_main_process = original


def _scaled(objects: InstanceData, factor: int, shape: tuple[int, int]) -> InstanceData:
    """Boxes and masks for a picture that was enlarged; boxes end where the image does.

    Matplotlib would shrink the picture to show what lies outside.
    """
    objects = objects.clone()
    if 'bboxes' in objects:
        boxes = torch.as_tensor(getattr(objects.bboxes, 'tensor', objects.bboxes)).float()
        limit = torch.tensor([shape[1], shape[0]] * 2)
        objects.bboxes = boxes.clamp(min=0).minimum(limit) * factor
    if 'masks' in objects:
        masks = objects.masks
        masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else np.asarray(masks)
        objects.masks = torch.from_numpy(masks.astype(bool).repeat(factor, 1).repeat(factor, 2))
    return objects


def load_truth(dataset: Any, index: int, with_masks: bool) -> InstanceData | None:
    """The objects of an image in pixels of its file, crowds left out; None if not known.

    Read from the data set itself: a test's pipeline need not load them, and may scale them.
    """
    from mmdet.datasets.transforms import LoadAnnotations
    from mmengine.structures import InstanceData

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
    return to_picture(inputs[0] if isinstance(inputs, (list, tuple)) else inputs)


def read_rgb(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8, RGB."""
    return np.ascontiguousarray(load_image(path)[..., ::-1])


def _label(sample: BaseDataElement, key: str) -> int | None:
    value = sample.get(key)
    return None if value is None else int(torch.as_tensor(value).reshape(-1)[0])


def _name(label: int | None, names: Sequence[str] | None) -> str:
    if label is None:
        return 'unknown'
    return str(names[label]) if names and label < len(names) else str(label)


def _score(sample: BaseDataElement, label: int | None) -> str:
    scores = sample.get('pred_score')
    return '' if scores is None or label is None else f'({float(scores[label]):.2f})'


def _enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, 0).repeat(factor, 1)


def _with_text(image: np.ndarray, lines: Sequence[str], color: tuple[int, ...]) -> np.ndarray:
    """The picture with lines of text on a band below."""
    band = np.full((LINE_HEIGHT * len(lines) + 8, image.shape[1], 3), 255, np.uint8)
    for row, line in enumerate(lines, start=1):
        place = (6, LINE_HEIGHT * row)
        cv2.putText(band, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
    return np.concatenate([image, band])
