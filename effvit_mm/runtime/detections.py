"""What a detector's graph gives, for use without mmdet and PyTorch: arrays of NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MARGIN = 1e-4  # of a score from the least one that counts: within it rounding decides


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


def detection_difference(
    actual: Sequence[np.ndarray], wanted: Sequence[np.ndarray], score_thr: float
) -> float:
    """How far the objects that two runtimes find lie apart.

    Each object of one is compared with the nearest of its class of the other, since those of nearly
    equal scores may change places. Left out are objects that score within 1e-4 of the threshold, or
    of the last one where there was no room for more.

    Args:
        actual, wanted: ``boxes`` (B, K, 4), ``scores`` and ``labels`` (B, K), and maybe ``masks``
            (B, K, h, w); score 0 and label -1 where there is no object.
        score_thr: Objects score more.

    Returns:
        The largest difference of boxes over their largest coordinate, of scores or of masks;
        infinite where shapes differ or there is no object of this class at all.
    """
    if [a.shape for a in actual] != [b.shape for b in wanted]:
        return float('inf')
    scale = max(np.abs(wanted[0]).max(), 1.0)
    differences = [0.0]
    for image in range(len(wanted[0])):
        sides = [[output[image] for output in outputs] for outputs in (actual, wanted)]
        for sought, found in (sides, sides[::-1]):
            differences += _distances(sought, found, score_thr, scale)
    return max(differences)


def _distances(
    sought: Sequence[np.ndarray], found: Sequence[np.ndarray], score_thr: float, scale: float
) -> list[float]:
    """Of each object of one image from the nearest among the others."""
    distances = []
    for place in np.flatnonzero(sought[1] > max(score_thr, sought[1].min()) + MARGIN):
        apart = np.maximum(
            np.abs(found[0] - sought[0][place]).max(1) / scale,
            np.abs(found[1] - sought[1][place]),
        )
        for masks, own in zip(found[3:], sought[3:], strict=True):
            apart = np.maximum(apart, np.abs(masks - own[place]).max((1, 2)))
        distances.append(float(apart.min(where=found[2] == sought[2][place], initial=np.inf)))
    return distances
