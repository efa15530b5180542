"""Pictures of images with what is in them: objects, labels, several on a sheet."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..utils.files import written_atomically
from ..utils.images import load_image

MIN_SIDE = 160  # below which a picture is enlarged before something is written on it
MIN_LENGTH = 224  # of the longer side of a picture with text below
GAP, LINE_HEIGHT = 6, 18
BLACK, GREEN, RED, WHITE = (0, 0, 0), (0, 120, 0), (200, 0, 0), (255, 255, 255)
FONT, FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
MIN_TEXT = 0.8  # to which text is made smaller before a picture is made wider
MAX_SHEET = 2560  # pixels of a sheet's width
MASK_OPACITY = 0.6


def read_rgb(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8, RGB."""
    return np.ascontiguousarray(load_image(path)[..., ::-1])


def save_png(picture: np.ndarray, path: str | Path) -> None:
    """Write an RGB picture, (H, W, 3) uint8, into a PNG file, atomically."""
    with written_atomically(path) as temporary:
        temporary.write_bytes(cv2.imencode('.png', picture[..., ::-1])[1].tobytes())


def as_bytes(inputs: np.ndarray, mean=0.0, std=1.0, is_rgb: bool = False) -> np.ndarray:
    """A network's input as (H, W, 3) uint8 in RGB.

    Args:
        inputs: (C, H, W), C 1 or 3: bytes, or floats that ``mean`` and ``std`` make of bytes again.
        mean: What was subtracted, per channel.
        std: What was divided by.
        is_rgb: The channels' order; OpenMMLab's loaders give BGR.
    """
    array = np.asarray(inputs).transpose(1, 2, 0)
    if array.dtype != np.uint8:
        array = array * np.asarray(std) + np.asarray(mean)
        array = np.clip(np.round(array), 0, 255).astype(np.uint8)
    if array.shape[2] == 1:
        return array.repeat(3, axis=2)
    return np.ascontiguousarray(array if is_rgb else array[..., ::-1])


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Each pixel as a square of ``factor`` pixels."""
    return np.ascontiguousarray(image.repeat(factor, 0).repeat(factor, 1))


def shrink(image: np.ndarray, longest: int) -> np.ndarray:
    """The image with no side of more than ``longest`` pixels."""
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return image
    size = max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def text_band(lines: Sequence[str], rows: int, width: int, color: Sequence[int]) -> np.ndarray:
    """Lines of text on white, with room for ``rows`` of them; long ones are written smaller."""
    band = np.full((LINE_HEIGHT * rows + GAP, width, 3), 255, np.uint8)
    for row, line in enumerate(lines, start=1):
        needed = cv2.getTextSize(line, FONT, FONT_SIZE, 1)[0][0]
        size = FONT_SIZE * min(1.0, (width - 4) / max(needed, 1))
        cv2.putText(band, line, (2, LINE_HEIGHT * row), FONT, size, color, 1, cv2.LINE_AA)
    return band


def with_text(image: np.ndarray, lines: Sequence[str], color: Sequence[int]) -> np.ndarray:
    """The picture with lines of text on a band below, on white where it is too narrow for them."""
    needed = max(cv2.getTextSize(line, FONT, FONT_SIZE, 1)[0][0] for line in lines)
    width = max(image.shape[1], math.ceil(needed * MIN_TEXT) + 4)
    wide = np.full((image.shape[0], width, 3), 255, np.uint8)
    wide[:, : image.shape[1]] = image
    return np.concatenate([wide, text_band(lines, len(lines), width, color)])


def label_color(label: int) -> tuple[int, int, int]:
    """A colour for each class, the same in every picture: RGB."""
    hue = (label * 0.61803398875) % 1  # neighbours are far apart
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_objects(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    scores: Sequence[float] | None = None,
    masks: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    min_side: int = MIN_SIDE,
) -> np.ndarray:
    """An image with boxes, masks, class names and scores.

    Args:
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4), left, top, right, bottom in pixels; what lies outside the image is cut off.
        labels: The objects' classes, from 0.
        scores: Written behind the names.
        masks: (N, H, W) bool.
        names: Of the classes; their numbers without them.
        palette: A colour for each class, RGB.
        min_side: A smaller image is enlarged, by a whole factor.
    """
    factor = math.ceil(min_side / min(image.shape[:2]))
    picture = enlarge(image, factor)
    height, width = picture.shape[:2]
    colors = [
        tuple(map(int, palette[n])) if palette and n < len(palette) else label_color(n)
        for n in map(int, labels)
    ]
    for mask, color in zip(() if masks is None else masks, colors, strict=False):
        shown = enlarge(np.asarray(mask, bool), factor)
        mixed = MASK_OPACITY * np.array(color) + (1 - MASK_OPACITY) * picture[shown]
        picture[shown] = mixed.astype(np.uint8)
    corners = np.asarray(boxes, np.float64).reshape(-1, 4) * factor
    corners = np.clip(corners, 0, [width - 1, height - 1] * 2).round().astype(int)
    for index, ((left, top, right, bottom), color) in enumerate(
        zip(corners.tolist(), colors, strict=True)
    ):
        cv2.rectangle(picture, (left, top), (right, bottom), color, 2)
        label = int(labels[index])
        text = names[label] if names and label < len(names) else str(label)
        if scores is not None:
            text = f'{text} {float(scores[index]):.2f}'
        write_tag(picture, str(text), (left, top), color)
    return picture


def write_tag(
    picture: np.ndarray,
    text: str,
    corner: tuple[int, int] = (0, 0),
    color: Sequence[int] = BLACK,
) -> None:
    """Write into a picture at a corner, (left, top), on a ground of a colour.

    What is longer than the picture is wide is written smaller.
    """
    size = 0.4 * min(1, (picture.shape[1] - 4) / cv2.getTextSize(text, FONT, 0.4, 1)[0][0])
    (width, height), below = cv2.getTextSize(text, FONT, size, 1)
    left = max(0, min(corner[0], picture.shape[1] - width - 4))
    top = max(0, min(corner[1], picture.shape[0] - height - below - 4))
    cv2.rectangle(picture, (left, top), (left + width + 3, top + height + below + 3), color, -1)
    ink = BLACK if np.dot(color, (0.3, 0.59, 0.11)) > 128 else WHITE
    cv2.putText(picture, text, (left + 2, top + height + 2), FONT, size, ink, 1, cv2.LINE_AA)


def draw_classification(
    image: np.ndarray, predicted: str, true: str | None, right: bool | None
) -> np.ndarray:
    """An image with the predicted and the true class below, RGB; green where it is right."""
    lines = [f'predicted: {predicted}'] + ([] if true is None else [f'true: {true}'])
    factor = max(1, round(MIN_LENGTH / max(image.shape[:2])))
    color = BLACK if right is None else GREEN if right else RED
    return with_text(enlarge(image, factor), lines, color)


def side_by_side(pictures: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """Pictures of one size in a row, with their titles below."""
    drawn = [with_text(picture, [t], BLACK) for picture, t in zip(pictures, titles, strict=True)]
    gap = np.full((len(drawn[0]), GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in drawn for part in (picture, gap)][:-1], axis=1)


def contact_sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in rows on one sheet, about as high as wide, at most :data:`MAX_SHEET` wide.

    Those higher than the middle one are made as high as that.
    """
    height, width = np.median([picture.shape[:2] for picture in pictures], axis=0)
    columns = math.ceil(math.sqrt(len(pictures) * height / width))
    scale = min(1.0, ((MAX_SHEET - GAP) / columns - GAP) / width)
    room = columns * (int(width * scale) + GAP)
    rows: list[list[np.ndarray]] = [[]]
    left = 0
    for picture in pictures:
        high, wide = picture.shape[:2]
        factor = min(scale, scale * height / high, (room - GAP) / wide)
        size = max(int(wide * factor), 1), max(int(high * factor), 1)
        shrunk = picture if factor == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        if left + size[0] + GAP > room:
            rows.append([])
            left = 0
        rows[-1].append(shrunk)
        left += size[0] + GAP
    heights = [max(picture.shape[0] for picture in row) + GAP for row in rows]
    sheet = np.full((sum(heights) + GAP, room + GAP, 3), 255, np.uint8)
    for row, top in zip(rows, np.cumsum([GAP, *heights]), strict=False):
        left = GAP
        for picture in row:
            sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            left += picture.shape[1] + GAP
    return sheet
