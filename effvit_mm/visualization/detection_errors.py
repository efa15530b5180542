"""Pictures of what :mod:`..evaluation.detection_errors` found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..evaluation.detection_errors import CAUSES, RECALLS, ErrorAnalysis
from ..utils.files import written_atomically
from .confusion import draw_confusion
from .names import plain

MAX_LINES, MAX_NUMBERS = 10, 20  # classes that get a line, or numbers, of their own
MAX_TICKS = 40


def draw_analysis(analysis: ErrorAnalysis, classes: Sequence[str], folder: Path) -> list[Path]:
    """Draw confusion, precision against recall, and errors by cause into three PNG files of a
    folder that exists; gives their paths."""
    files = {
        'confusion.png': _confusion(analysis, classes),
        'precision_recall.png': _curves(analysis, classes),
        'errors.png': _errors(analysis),
    }
    for name, figure in files.items():
        with written_atomically(folder / name) as temporary:
            figure.savefig(temporary, format='png', dpi=110)
    return [folder / name for name in files]


def _confusion(analysis: ErrorAnalysis, classes: Sequence[str]) -> Figure:
    matrix = analysis.confusion
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names = [plain(name) for name in classes] if len(classes) <= MAX_TICKS else None
    return draw_confusion(
        shares,
        matrix if len(classes) <= MAX_NUMBERS else None,
        () if names is None else [*names, 'not found'],
        () if names is None else [*names, 'no object'],
        f'IoU 0.5, score {analysis.min_score:g} or more',
    )


def _curves(analysis: ErrorAnalysis, classes: Sequence[str]) -> Figure:
    """A line for each class; many classes in grey, with their mean."""
    figure = Figure(figsize=(10, 4.2), layout='constrained')
    for axis, (iou, curves) in zip(figure.subplots(1, 2), analysis.curves.items(), strict=True):
        seen = np.flatnonzero(analysis.counts)
        values = analysis.average_precision(iou)
        for label in seen:
            if len(seen) <= MAX_LINES:
                text = f'{plain(classes[label])}, {values[label]:.3f}'
                axis.plot(RECALLS, curves[label], lw=1.2, label=text)
            else:
                axis.plot(RECALLS, curves[label], lw=0.5, color='0.75')
        if len(seen) > 1:
            mean = f'mean, {values[seen].mean():.3f}'
            axis.plot(RECALLS, curves[seen].mean(0), lw=2, color='black', label=mean)
        if len(seen):
            axis.legend(fontsize=8, loc='lower left', title='average precision')
        axis.set(title=f'IoU {iou:g}', xlabel='recall', ylabel='precision')
        axis.set(xlim=(0, 1.01), ylim=(0, 1.02))
        axis.grid(alpha=0.3)
    return figure


def _errors(analysis: ErrorAnalysis) -> Figure:
    """How many errors of a cause, and what they cost."""
    figure = Figure(figsize=(9.5, 3.4), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(CAUSES))
    confident = [analysis.confident[cause] for cause in CAUSES]
    bars = left.barh(places, confident, color='tab:orange')
    left.bar_label(bars, padding=2, fontsize=8)
    left.set(xlabel=f'errors, score {analysis.min_score:g} or more')
    costs = np.nan_to_num([100 * analysis.costs[cause] for cause in CAUSES])
    bars = right.barh(places, costs, color='tab:blue')
    right.bar_label(bars, fmt='%.1f', padding=2, fontsize=8)
    right.set(xlabel='points of AP50 that they cost')
    left.set_yticks(places, CAUSES)
    left.invert_yaxis()
    for axis in (left, right):
        axis.margins(x=0.15)
        axis.grid(axis='x', alpha=0.3)
    return figure
