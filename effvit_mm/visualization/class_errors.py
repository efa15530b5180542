"""Pictures of a classifier's mistakes: the confusion of classes, and the surest of the wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..evaluation.classification import ClassFigures
from ..utils.files import written_atomically
from .confusion import draw_confusion
from .names import fonts, short_names

MAX_TICKS, MAX_NUMBERS = 50, 20  # classes up to which their names, or numbers, are shown
COLUMNS = 6
DPI = 110


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction: (H, W, 3) uint8 in RGB, labels from 0, the score of the predicted."""

    image: np.ndarray
    true: int
    predicted: int
    score: float


def save_confusion(figures: ClassFigures, names: Sequence[str], path: str | Path) -> None:
    """Draw the confusion into a PNG file: how many images, coloured by their share of the class."""
    cells = figures.confusion if len(names) <= MAX_NUMBERS else None
    shown = short_names(names) if len(names) <= MAX_TICKS else ()
    title = f'{figures.counts.sum()} images'
    _save(draw_confusion(figures.shares, cells, shown, shown, title), path)


def save_mistakes(mistakes: Sequence[Mistake], names: Sequence[str], path: str | Path) -> None:
    """Draw one or more mistakes in their order into a PNG file, with names and score above each."""
    shown = short_names(names)
    columns = min(COLUMNS, len(mistakes))
    rows = math.ceil(len(mistakes) / columns)
    figure = Figure(figsize=(2.4 * columns, 2.9 * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, mistake in zip(axes, mistakes, strict=False):
        score = '' if math.isnan(mistake.score) else f' ({mistake.score:.2f})'
        axis.imshow(mistake.image)
        text = f'predicted: {shown[mistake.predicted]}{score}\ntrue: {shown[mistake.true]}'
        axis.set_title(text, fontsize=7, family=fonts(), loc='left')
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    with written_atomically(Path(path)) as temporary:
        figure.savefig(temporary, format='png', dpi=DPI)
