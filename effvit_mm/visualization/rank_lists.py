"""Rank lists: a query, and the images of the gallery that come first for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..utils.files import written_atomically
from .pictures import BLACK, GAP, GREEN, LINE_HEIGHT, RED, encode_png, read_rgb

HEIGHT, WIDTH = 208, 104  # of an image; others are fitted in
FRAME = 4
FONT, FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


class Shown(NamedTuple):
    """An image of a rank list.

    Attributes:
        path: Its file.
        captions: Lines below it.
        right: Whether it shows the query's person; None where it is not known, and of the query.
    """

    path: str | Path
    captions: Sequence[str]
    right: bool | None = None


def caption(pid: int, camid: int, cameras: Sequence[str] = ()) -> list[str]:
    """Person and camera in words; what is not known (-1) is left out.

    Args:
        pid: The person.
        camid: The camera, from 0.
        cameras: Their names by ``camid``; without names they are numbered from 1, as the files of
            Market-1501 are.
    """
    lines = [f'person {pid}'] if pid >= 0 else []
    if camid >= 0:
        name = cameras[camid] if camid < len(cameras) else f'{camid + 1}'
        lines.append(name if 'cam' in str(name).lower() else f'camera {name}')
    return lines


def draw_rank_list(query: Shown, ranked: Sequence[Shown]) -> np.ndarray:
    """A query at the left, what was found for it in order at the right: (H, W, 3) uint8, RGB.

    The frame is green round images of the query's person, red round others, black where neither
    is known.

    Raises:
        DataError: An image cannot be read.
    """
    lines = max(len(shown.captions) for shown in (query, *ranked))
    cells = [_cell(query, 'query', lines)]
    for place, shown in enumerate(ranked, start=1):
        cells.append(_cell(shown, f'{place}', lines))
    gap = np.full((len(cells[0]), GAP, 3), 255, np.uint8)
    wide = np.full((len(cells[0]), 3 * GAP, 3), 255, np.uint8)
    row = [gap, cells[0], wide]
    for cell in cells[1:]:
        row += [cell, gap]
    return np.concatenate(row, axis=1)


def save_rank_list(path: str | Path, query: Shown, ranked: Sequence[Shown]) -> None:
    """Draw a rank list into a PNG file, written atomically."""
    picture = encode_png(draw_rank_list(query, ranked))
    with written_atomically(path) as temporary:
        temporary.write_bytes(picture)


def _cell(shown: Shown, title: str, lines: int) -> np.ndarray:
    """The image in its frame, its place above and its captions below."""
    color = {None: BLACK, True: GREEN, False: RED}[shown.right]
    image = cv2.copyMakeBorder(
        _fitted(read_rgb(shown.path)), *[FRAME] * 4, cv2.BORDER_CONSTANT, value=color
    )
    above = _text([title], 1, image.shape[1], BLACK)
    below = _text(shown.captions, lines, image.shape[1], color)
    return np.concatenate([above, image, below])


def _fitted(image: np.ndarray) -> np.ndarray:
    """The image as large as it fits into a cell, on white."""
    scale = min(HEIGHT / image.shape[0], WIDTH / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    canvas[top : top + height, left : left + width] = resized
    return canvas


def _text(texts: Sequence[str], lines: int, width: int, color: tuple[int, ...]) -> np.ndarray:
    """Lines of text on white; long ones are written smaller."""
    band = np.full((LINE_HEIGHT * lines + GAP, width, 3), 255, np.uint8)
    for row, text in enumerate(texts, start=1):
        needed = cv2.getTextSize(text, FONT, FONT_SIZE, 1)[0][0]
        size = FONT_SIZE * min(1.0, (width - 4) / max(needed, 1))
        cv2.putText(band, text, (2, LINE_HEIGHT * row), FONT, size, color, 1, cv2.LINE_AA)
    return band
