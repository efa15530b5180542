"""Rank lists: a query, and the images of the gallery that come first for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from .pictures import BLACK, GAP, GREEN, RED, read_rgb, save_png, text_band

HEIGHT, WIDTH = 208, 104  # of an image; others are fitted in
FRAME = 4


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
    first = _cell(query, 'query', lines)
    gap = np.full((len(first), GAP, 3), 255, np.uint8)
    row = [gap, first, gap, gap]
    for place, shown in enumerate(ranked, start=1):
        row += [gap, _cell(shown, str(place), lines)]
    return np.concatenate([*row, gap], axis=1)


def save_rank_list(path: str | Path, query: Shown, ranked: Sequence[Shown]) -> None:
    """Draw a rank list into a PNG file, written atomically."""
    save_png(draw_rank_list(query, ranked), path)


def _cell(shown: Shown, title: str, lines: int) -> np.ndarray:
    """The image in its frame, its place above and its captions below."""
    color = {None: BLACK, True: GREEN, False: RED}[shown.right]
    image = ImageOps.pad(Image.fromarray(read_rgb(shown.path)), (WIDTH, HEIGHT), color='white')
    image = np.asarray(ImageOps.expand(image, FRAME, color))
    above = text_band([title], 1, image.shape[1], BLACK)
    below = text_band(shown.captions, lines, image.shape[1], color)
    return np.concatenate([above, image, below])
