"""Pictures of what a data set gives to a network: after the pipeline, with the truth drawn in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

MIN_SIDE = 160  # below which a picture is enlarged before labels are written on it
GAP = 6


def normalization(pipeline: Sequence[object]) -> dict:
    """Mean, standard deviation and channel order that a pipeline has already applied."""
    found = {'mean': 0.0, 'std': 1.0, 'is_rgb': False}
    for step in pipeline:
        if type(step).__name__ == 'Normalize' and hasattr(step, 'mean'):
            found.update(mean=step.mean, std=step.std)
            found['is_rgb'] = bool(getattr(step, 'to_rgb', False))
    return found


def to_picture(inputs: torch.Tensor, mean=0.0, std=1.0, is_rgb: bool = False) -> np.ndarray:
    """A network's input as (H, W, 3) uint8 in RGB.

    Args:
        inputs: (C, H, W), C 1 or 3: bytes, or floats that ``mean`` and ``std`` make of bytes again.
        mean: What was subtracted in the pipeline, per channel; the preprocessor comes later.
        std: What was divided by.
        is_rgb: The channels' order; OpenMMLab's loaders give BGR.
    """
    array = inputs.permute(1, 2, 0).cpu().numpy()
    if array.dtype != np.uint8:
        array = array * np.asarray(std) + np.asarray(mean)
        array = np.clip(np.round(array), 0, 255).astype(np.uint8)
    if array.shape[2] == 1:
        return array.repeat(3, axis=2)
    return np.ascontiguousarray(array if is_rgb else array[..., ::-1])


def draw_samples(dataset, indices: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
    """``(name, picture)`` of samples of a classification or detection set, RGB."""
    inner = dataset
    while not hasattr(inner, 'pipeline') and (hasattr(inner, 'dataset') or _parts(inner)):
        inner = inner.dataset if hasattr(inner, 'dataset') else _parts(inner)[0]
    undo = normalization(getattr(getattr(inner, 'pipeline', None), 'transforms', ()))
    for index in indices:
        item = dataset[index]
        inputs, sample = item['inputs'], item['data_samples']
        if isinstance(inputs, list | tuple):  # several views of an image
            inputs, sample = inputs[0], sample[0] if isinstance(sample, list | tuple) else sample
        picture = to_picture(inputs, **undo)
        meta = dataset.metainfo
        if 'gt_instances' in sample:
            picture = draw_objects(picture, sample, meta)
        elif 'gt_label' in sample:
            picture = draw_label(picture, sample, meta.get('classes'))
        path = sample.metainfo.get('img_path')
        yield f'{index:06d}_{Path(path).stem}' if path else f'{index:06d}', picture


def _parts(dataset) -> list:
    return list(getattr(dataset, 'datasets', ()))


def draw_objects(picture: np.ndarray, sample, meta: dict) -> np.ndarray:
    """Boxes, masks and class names, by mmdet's visualizer."""
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer(line_width=1, alpha=0.6)
    visualizer.dataset_meta = meta
    sample = sample.clone()
    boxes = sample.gt_instances.bboxes
    sample.gt_instances.bboxes = getattr(boxes, 'tensor', boxes)
    visualizer.add_datasample('sample', picture, sample, draw_pred=False)
    return visualizer.get_image()


def draw_label(picture: np.ndarray, sample, classes: Sequence[str] | None) -> np.ndarray:
    """The class's name, by mmpretrain's visualizer; small pictures are enlarged."""
    from mmpretrain.visualization import UniversalVisualizer

    factor = math.ceil(MIN_SIDE / min(picture.shape[:2]))
    picture = np.ascontiguousarray(picture.repeat(factor, 0).repeat(factor, 1))
    return UniversalVisualizer().visualize_cls(picture, sample, classes, draw_pred=False)


def contact_sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in rows on one sheet, each in a cell of the largest one's size."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height = max(picture.shape[0] for picture in pictures) + GAP
    width = max(picture.shape[1] for picture in pictures) + GAP
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = GAP + place // columns * height, GAP + place % columns * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def encode_png(picture: np.ndarray) -> bytes:
    """An RGB picture as the bytes of a PNG file."""
    return cv2.imencode('.png', picture[..., ::-1])[1].tobytes()
