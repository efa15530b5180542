"""How much a picture of a person says."""

from __future__ import annotations

import cv2
import numpy as np

MIN_QUALITY = 1e-6


def crop_qualities(
    image: np.ndarray, crops: list[np.ndarray], boxes: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Weights of the people in a frame: (N,) float64, score x area x sharpness.

    The area is that within the frame, in pixels, less what boxes cover that end lower down: their
    people are nearer to the camera. Sharpness is the standard deviation of the grey crop's
    Laplacian.

    Args:
        image: (H, W, 3) uint8.
        crops: What the boxes hold of it.
        boxes: (N, 4), left, top, right, bottom in pixels.
        scores: (N,), from 0 to 1.
    """
    height, width = image.shape[:2]
    inside = np.clip(np.asarray(boxes, np.float64), 0, [width, height] * 2)
    qualities = np.empty(len(crops))
    for number, crop in enumerate(crops):
        area = visible_area(number, inside)
        grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
        sharpness = cv2.Laplacian(grey, cv2.CV_64F).std()
        qualities[number] = scores[number] * area * sharpness
    return np.maximum(qualities, MIN_QUALITY)


def visible_area(number: int, boxes: np.ndarray) -> float:
    """Pixels of a box less those that boxes in front of it cover, each counted for itself."""
    left, top, right, bottom = boxes[number]
    own = (right - left) * (bottom - top)
    front = boxes[boxes[:, 3] > bottom]
    wide = np.minimum(right, front[:, 2]) - np.maximum(left, front[:, 0])
    high = np.minimum(bottom, front[:, 3]) - np.maximum(top, front[:, 1])
    return float(max(own - (np.maximum(wide, 0) * np.maximum(high, 0)).sum(), 0))
