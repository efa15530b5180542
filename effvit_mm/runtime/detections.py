"""What a detector's graph gives, for use without mmdet and PyTorch: arrays of NumPy."""

from __future__ import annotations

import numpy as np


def paste_masks(
    masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float = 0.5
) -> np.ndarray:
    """Masks of boxes' regions in the image: resampled between pixels' centres, as mmdet does it.

    Args:
        masks: (N, h, w), probabilities.
        boxes: (N, 4), left, top, right, bottom in pixels of the image.
        size: Height and width of the image.
        threshold: From which probability on a pixel belongs to the object.

    Returns:
        (N, height, width), bool.
    """
    pasted = np.zeros((len(masks), *size), bool)
    for image, mask, (left, top, right, bottom) in zip(pasted, masks, boxes, strict=True):
        rows = _weights(top, bottom, size[0], mask.shape[0])
        columns = _weights(left, right, size[1], mask.shape[1])
        np.greater_equal(rows @ mask @ columns.T, threshold, out=image)
    return pasted


def _weights(start: float, end: float, pixels: int, cells: int) -> np.ndarray:
    """How much of each cell between two places of a side is in each pixel: (pixels, cells)."""
    if end <= start:
        return np.zeros((pixels, cells), np.float32)
    places = (np.arange(pixels, dtype=np.float32) + 0.5 - start) / (end - start) * cells - 0.5
    return np.maximum(1 - np.abs(places[:, None] - np.arange(cells)), 0, dtype=np.float32)
