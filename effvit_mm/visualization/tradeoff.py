"""Accuracy against what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..engine.files import written_atomically


class Point(NamedTuple):
    """One measured setting.

    Attributes:
        cost: Position on the horizontal axis.
        accuracy: Position on the vertical axis, percent.
        label: Written beside it.
    """

    cost: float
    accuracy: float
    label: str


def draw_tradeoff(panels: Mapping[str, Mapping[str, Sequence[Point]]], path: Path) -> None:
    """Draw one panel a kind of cost, with one line a series, into a PNG file.

    Args:
        panels: ``{label of the cost axis: {name of a series: its points}}``. A series of one point
            is drawn as a star: what the others are compared with.
        path: The file; written atomically.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4 * len(panels), 4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (cost, series) in zip(axes, panels.items(), strict=True):
        for name, points in series.items():
            xs, ys = [p.cost for p in points], [p.accuracy for p in points]
            style = 'o-' if len(points) > 1 else '*'
            axis.plot(xs, ys, style, markersize=4 if len(points) > 1 else 9, label=name)
            for point in points:
                place = (point.cost, point.accuracy)
                axis.annotate(point.label, place, (0, 5), textcoords='offset points', fontsize=7)
        axis.set(xlabel=cost)
        axis.grid(alpha=0.3)
    axes[0].set(ylabel='top-1 accuracy, %')
    axes[0].legend(fontsize='small', loc='lower right')
    with written_atomically(path) as temporary:
        figure.savefig(temporary, format='png', dpi=120)
