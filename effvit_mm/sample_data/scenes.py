"""The sample scenes: handwritten digits of many sizes on textured canvases, with boxes and masks.

All arithmetic on pixels is that of whole numbers, and random numbers come from NumPy's frozen
generator: every machine and every release of the libraries draws the same pixels. Nothing of mmdet
is needed to make them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import RandomState

from ..errors import DataError
from .digit_images import CLASSES, GREY_LEVELS, SPLITS, load_digit_images, split_indices

NUM_SCENES = {'train': 600, 'test': 150}
SEEDS = {'train': 20260, 'test': 20261}
WIDTHS, HEIGHTS = (192, 256), (160, 216)
DIGITS_A_SCENE = (4, 12)
# Heights of a digit's 8 rows in pixels; each as probable as the others, so small ones prevail.
SIZES = (14, 16, 18, 20, 22, 25, 28, 32, 36, 40, 45, 50, 57, 64)
MAX_TURN = 15  # degrees
MAX_COVERED = 25  # percent of an earlier digit that later ones may hide
MIN_CONTRAST = 80  # of 255, between a digit and the mean of what it is drawn on
ATTEMPTS = 30
ONE = 1 << 12  # fixed-point 1
# Where between paper and full ink, of 100, a digit's edge begins and where it is opaque.
EDGE = (26, 50)


@dataclass
class Drawn:
    """A digit in a scene: which one, and the pixels (H, W) of it that can be seen."""

    digit: int
    mask: np.ndarray
    area_at_first: int


def interpolate(grid: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values of an integer grid at fixed-point places, 0 outside; ``ONE`` times as large.

    Args:
        grid: (h, w) integers.
        rows: Places in units of 1 / ``ONE`` rows, any shape.
        columns: Places in units of 1 / ``ONE`` columns, of a shape that broadcasts with ``rows``.
    """
    padded = np.pad(grid.astype(np.int64), 2)
    rows = np.clip(rows, -ONE, grid.shape[0] * ONE) + 2 * ONE
    columns = np.clip(columns, -ONE, grid.shape[1] * ONE) + 2 * ONE
    i, j = rows // ONE, columns // ONE
    down, right = rows % ONE, columns % ONE
    upper = padded[i, j] * (ONE - right) + padded[i, j + 1] * right
    lower = padded[i + 1, j] * (ONE - right) + padded[i + 1, j + 1] * right
    return (upper * (ONE - down) + lower * down) // ONE


def enlarge(grid: np.ndarray, cell: int, height: int, width: int) -> np.ndarray:
    """The upper left (height, width) of a grid of integers enlarged ``cell`` times, bilinear."""
    i, down = np.divmod(np.arange(height), cell)
    j, right = np.divmod(np.arange(width), cell)
    down = down[:, None]
    columns = grid[i] * (cell - down) + grid[i + 1] * down
    return (columns[:, j] * (cell - right) + columns[:, j + 1] * right) // cell**2


def draw_texture(generator: RandomState, height: int, width: int) -> np.ndarray:
    """A canvas (H, W, 3) uint8: a gradient, noise of several scales, on every other stripes."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    canvas = np.empty((height, width, 3), np.int32)
    start, slope = generator.randint(50, 206, 3), generator.randint(-60, 61, (2, 3))
    for channel in range(3):
        down, right = (int(value) for value in slope[:, channel])
        canvas[..., channel] = (
            int(start[channel]) + rows * down // height + columns * right // width
        )
    for cell, strength in ((64, 24), (20, 14), (6, 8)):
        shape = (height // cell + 2, width // cell + 2)
        tint = generator.randint(2, 5, 3, np.int32)
        noise = generator.randint(-strength, strength + 1, shape, np.int32)
        canvas += enlarge(noise, cell, height, width)[..., None] * tint // 4
    if generator.randint(2):
        period, strength = int(generator.randint(6, 40)), int(generator.randint(6, 24))
        step = generator.randint(-3, 4, 2)
        phase = (rows * int(step[0]) + columns * (int(step[1]) or 1)) % (2 * period)
        canvas += ((np.abs(phase - period) * 2 - period) * strength // period)[..., None]
    grain = generator.randint(-2, 3, ((height + 1) // 2, (width + 1) // 2))
    canvas += grain.repeat(2, 0).repeat(2, 1)[:height, :width, None]
    return np.clip(canvas, 0, 255).astype(np.uint8)


def draw_digit(image: np.ndarray, size: int, degrees: int) -> np.ndarray:
    """How opaque (0 to 256) each pixel of a turned and enlarged digit is; margins cut off.

    Args:
        image: (8, 8), values 0 to ``GREY_LEVELS``.
        size: What 8 rows become, in pixels.
        degrees: Anticlockwise.
    """
    side = math.ceil(size * 1.3)
    scale = 8 * ONE / (2 * size)
    cos = round(math.cos(math.radians(degrees)) * scale)
    sin = round(math.sin(math.radians(degrees)) * scale)
    offset = 2 * np.arange(side) - (side - 1)  # from the centre, in half pixels
    down, right = offset[:, None], offset[None]
    middle = 7 * ONE // 2
    ink = interpolate(image, middle + cos * down + sin * right, middle + cos * right - sin * down)
    begin, end = (GREY_LEVELS * ONE * percent // 100 for percent in EDGE)
    opacity = np.clip((ink - begin) * 256 // (end - begin), 0, 256)
    x, y, width, height = tight_box(opacity > 0)
    return opacity[y : y + height, x : x + width]


def choose_color(generator: RandomState, under: np.ndarray) -> np.ndarray:
    """A random colour that differs enough in brightness from the pixels (N, 3) to be covered."""
    weights = np.array((114, 587, 299))  # blue, green, red
    brightness = int((under.astype(np.int64) @ weights).sum()) // (1000 * len(under))
    for _ in range(ATTEMPTS):
        color = generator.randint(0, 256, 3)
        if abs(int(color @ weights) // 1000 - brightness) >= MIN_CONTRAST:
            return color
    return np.full(3, 0 if brightness > 127 else 255)


def place_digit(
    generator: RandomState, canvas: np.ndarray, opacity: np.ndarray, drawn: list[Drawn], digit: int
) -> bool:
    """Draw a digit at a random place that hides little of the others; whether there was one."""
    height, width = opacity.shape
    solid = opacity >= 128
    for _ in range(ATTEMPTS):
        top = int(generator.randint(0, canvas.shape[0] - height + 1))
        left = int(generator.randint(0, canvas.shape[1] - width + 1))
        window = (slice(top, top + height), slice(left, left + width))
        if all(
            100 * (other.mask.sum() - (other.mask[window] & solid).sum())
            >= (100 - MAX_COVERED) * other.area_at_first
            for other in drawn
        ):
            break
    else:
        return False
    color = choose_color(generator, canvas[window][solid])
    share = opacity[..., None]
    canvas[window] = (canvas[window] * (256 - share) + color * share + 128) >> 8
    for other in drawn:
        other.mask[window] &= ~solid
    mask = np.zeros(canvas.shape[:2], bool)
    mask[window] = solid
    drawn.append(Drawn(digit, mask, int(solid.sum())))
    return True


def draw_scene(
    generator: RandomState, images: np.ndarray, labels: np.ndarray, split: str
) -> tuple[np.ndarray, list[Drawn]]:
    """A scene, (H, W, 3) uint8 in BGR, and its digits from the back to the front."""
    height = int(generator.randint(HEIGHTS[0], HEIGHTS[1] + 1))
    width = int(generator.randint(WIDTHS[0], WIDTHS[1] + 1))
    canvas = draw_texture(generator, height, width)
    drawn: list[Drawn] = []
    for _ in range(int(generator.randint(DIGITS_A_SCENE[0], DIGITS_A_SCENE[1] + 1))):
        digit = int(generator.randint(len(CLASSES)))
        choices = split_indices(labels, digit, split)
        index = choices[int(generator.randint(len(choices)))]
        size = SIZES[int(generator.randint(len(SIZES)))]
        degrees = int(generator.randint(-MAX_TURN, MAX_TURN + 1))
        place_digit(generator, canvas, draw_digit(images[index], size, degrees), drawn, digit)
    return canvas, drawn


def mask_to_rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths: down the columns, beginning with a run of zeros."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return {'size': list(mask.shape), 'counts': [0, *runs] if flat[0] else runs}


def tight_box(mask: np.ndarray) -> list[int]:
    """``[x, y, width, height]`` of a mask's pixels."""
    return list(cv2.boundingRect(mask.astype(np.uint8)))


def build_digit_scenes(folder: Path) -> None:
    """Write ``images/<split>/*.png`` and ``annotations/<split>.json`` into ``folder``."""
    images, labels = load_digit_images()
    (folder / 'annotations').mkdir()
    for split in SPLITS:
        place = folder / 'images' / split
        place.mkdir(parents=True)
        generator = RandomState(SEEDS[split])
        coco = {
            'info': {'description': 'effvit_mm digit_scenes, made from the digits of scikit-learn'},
            'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)],
            'images': [],
            'annotations': [],
        }
        for number in range(1, NUM_SCENES[split] + 1):
            scene, drawn = draw_scene(generator, images, labels, split)
            file = place / f'{number:04d}.png'
            if not cv2.imwrite(str(file), scene):
                raise DataError(f'{file} cannot be written')
            size = {'width': scene.shape[1], 'height': scene.shape[0]}
            coco['images'].append({'id': number, 'file_name': file.name, **size})
            for item in drawn:
                annotation = {
                    'id': len(coco['annotations']) + 1,
                    'image_id': number,
                    'category_id': item.digit + 1,
                    'bbox': tight_box(item.mask),
                    'area': int(item.mask.sum()),
                    'segmentation': mask_to_rle(item.mask),
                    'iscrowd': 0,
                }
                coco['annotations'].append(annotation)
        text = json.dumps(coco, separators=(',', ':'))
        (folder / 'annotations' / f'{split}.json').write_text(text)
