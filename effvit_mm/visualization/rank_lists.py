"""Rank lists: a query, and the images of the gallery that come first for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from .pictures import (
    BLACK,
    FONT,
    FONT_SIZE,
    GAP,
    GREEN,
    MIN_TEXT,
    RED,
    read_rgb,
    save_png,
    text_band,
)

HEIGHT, WIDTH = 208, 104  # of an image; others are fitted in
FRAME = 4
IN_A_ROW = 10  # of what was found


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


def is_legible(line: str) -> bool:
    """Whether a caption is written in full size, or little smaller."""
    needed = cv2.getTextSize(line, FONT, FONT_SIZE, 1)[0][0]
    return needed * MIN_TEXT <= WIDTH + 2 * FRAME - 4


def shortened(line: str) -> str:
    """A caption with as much left out of its middle as it takes to be legible."""
    text = line
    for kept in range(len(line) - 1, 1, -1):
        if is_legible(text):
            break
        text = f'{line[: kept - kept // 2]}...{line[-(kept // 2) :]}'
    return text


def draw_rank_list(query: Shown, ranked: Sequence[Shown]) -> np.ndarray:
    """A query at the left, what was found for it in order at the right: (H, W, 3) uint8, RGB.

    A row has at most :data:`IN_A_ROW` images; further ones follow below. The frame is
    green round images of the query's person, red round others, black where neither is known.

    Raises:
        DataError: An image cannot be read.
    """
    lines = max(len(shown.captions) for shown in (query, *ranked))
    first = _cell(query, 'query', lines)
    gap = np.full((len(first), GAP, 3), 255, np.uint8)
    cells = [_cell(shown, str(place), lines) for place, shown in enumerate(ranked, start=1)]
    blank = np.full_like(first, 255)
    if len(cells) > IN_A_ROW:
        cells += [blank] * (-len(cells) % IN_A_ROW)
    rows = []
    for start in range(0, max(len(cells), 1), IN_A_ROW):
        row = [gap, blank if start else first, gap, gap]
        for cell in cells[start : start + IN_A_ROW]:
            row += [gap, cell]
        rows.append(np.concatenate([*row, gap], axis=1))
    return np.concatenate(rows)


def save_rank_list(path: str | Path, query: Shown, ranked: Sequence[Shown]) -> None:
    """Draw a rank list into a PNG file, written atomically."""
    save_png(draw_rank_list(query, ranked), path)


def _cell(shown: Shown, title: str, lines: int) -> np.ndarray:
    """The image in its frame, its place above and its captions below."""
    color = {None: BLACK, True: GREEN, False: RED}[shown.right]
    image = ImageOps.pad(Image.fromarray(read_rgb(shown.path)), (WIDTH, HEIGHT), color='white')
    image = np.asarray(ImageOps.expand(image, FRAME, color))
    above = text_band([title], 1, image.shape[1], BLACK)
    captions = [shortened(line) for line in shown.captions]
    below = text_band(captions, lines, image.shape[1], color)
    return np.concatenate([above, image, below])
