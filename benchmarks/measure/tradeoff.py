"""What something gives against what it costs, and how a cost grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from effvit_mm.utils.files import written_atomically


class Point(NamedTuple):
    """One measured setting.

    Attributes:
        x: Position on the horizontal axis.
        y: Position on the vertical axis.
        label: Written beside it.
    """

    x: float
    y: float
    label: str = ''


def draw_tradeoff(panels: Mapping[str, Mapping[str, Sequence[Point]]], path: Path) -> None:
    """Draw accuracy in percent over costs, with one line a series, into a PNG file.

    Args:
        panels: ``{label of the cost axis: {name of a series: its points}}``. A series of one point
            is drawn as a star: what the others are compared with.
        path: The file; written atomically.
    """
    figure, axes = _panels(panels, 'top-1 accuracy, %')
    for axis, series in zip(axes, panels.values(), strict=True):
        _draw_lines(axis, series)
    axes[0].legend(fontsize='small', loc='lower right')
    _save(figure, path)


def draw_curves(
    panels: Mapping[str, Mapping[str, Sequence[Point]]], path: Path, y_label: str
) -> None:
    """Draw how costs grow, with one line a series, both axes logarithmic, into a PNG file.

    A straight line of slope one is growth in proportion.

    Args:
        panels: ``{label of the horizontal axis: {name of a series: its points}}``.
        path: The file; written atomically.
        y_label: Of the vertical axis.
    """
    figure, axes = _panels(panels, y_label)
    for axis, series in zip(axes, panels.values(), strict=True):
        _draw_lines(axis, series)
        axis.set(xscale='log', yscale='log')
        ticks = sorted({point.x for points in series.values() for point in points})
        axis.set_xticks(ticks, [f'{tick:.0f}' for tick in ticks])
        axis.minorticks_off()
        axis.legend(fontsize='x-small')
    _save(figure, path)


def draw_pareto(
    panels: Mapping[str, Mapping[str, Sequence[Point]]], path: Path, y_label: str
) -> None:
    """Draw points and the front of those that no other beats in both, into a PNG file.

    Args:
        panels: ``{label of the cost axis, which is logarithmic: {name of a kind: its points}}``.
            The front is that of all kinds.
        path: The file; written atomically.
        y_label: Of the vertical axis: the more, the better.
    """
    figure, axes = _panels(panels, y_label)
    for axis, kinds in zip(axes, panels.values(), strict=True):
        for name, points in kinds.items():
            axis.plot([p.x for p in points], [p.y for p in points], 'o', markersize=4, label=name)
        front = pareto_front([point for points in kinds.values() for point in points])
        axis.plot(
            [p.x for p in front], [p.y for p in front], '--', drawstyle='steps-post', lw=1,
            color='gray', zorder=0,
        )  # fmt: skip
        axis.set(xscale='log')
        axis.xaxis.set_major_formatter('{x:g}')
        axis.xaxis.set_minor_formatter('{x:g}')
        axis.tick_params(axis='x', which='both', labelsize='small')
        axis.margins(x=0.2, y=0.15)
        axis.legend(fontsize='small', loc='lower right')
    figure.draw_without_rendering()  # what has no place yet cannot be avoided
    for axis, kinds in zip(axes, panels.values(), strict=True):
        _label_apart(axis, [point for points in kinds.values() for point in points])
    _save(figure, path)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Points of which none other costs as little or less and has as much or more; by cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not front or point.y > front[-1].y:
            front.append(point)
    return front


def _panels(labels: Sequence[str] | Mapping, y_label: str):
    """A figure with one panel for each label of a horizontal axis; and the panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4 * len(labels), 4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(labels), squeeze=False, sharey=True)[0]
    for axis, label in zip(axes, labels, strict=True):
        axis.set(xlabel=label)
        axis.grid(alpha=0.3)
    axes[0].set(ylabel=y_label)
    return figure, axes


def _draw_lines(axis, series: Mapping[str, Sequence[Point]]) -> None:
    for name, points in series.items():
        style = 'o-' if len(points) > 1 else '*'
        size = 4 if len(points) > 1 else 9
        axis.plot([p.x for p in points], [p.y for p in points], style, markersize=size, label=name)
        _annotate(axis, points)


def _annotate(axis, points: Sequence[Point]) -> None:
    for point in points:
        place = (point.x, point.y)
        axis.annotate(point.label, place, (0, 5), textcoords='offset points', fontsize=7)


def _label_apart(axis, points: Sequence[Point]) -> None:
    """Write labels beside their points, towards the middle; where two would meet, one above."""
    middle = axis.transAxes.transform((0.5, 0.5))[0]
    taken: list = []
    for point in sorted(points, key=lambda p: (p.y, p.x)):
        place = (point.x, point.y)
        left = axis.transData.transform(place)[0] < middle
        text = axis.annotate(
            point.label, place, (6 if left else -6, -2), textcoords='offset points', fontsize=7,
            ha='left' if left else 'right',
        )  # fmt: skip
        while any(text.get_window_extent().overlaps(box) for box in taken):
            text.xyann = (text.xyann[0], text.xyann[1] + 3)
        taken.append(text.get_window_extent())
        line = {'arrowstyle': '-', 'lw': 0.3, 'shrinkA': 0}
        axis.annotate('', place, text.xyann, textcoords='offset points', arrowprops=line)


def _save(figure, path: Path) -> None:
    with written_atomically(path) as temporary:
        figure.savefig(temporary, format='png', dpi=120)
