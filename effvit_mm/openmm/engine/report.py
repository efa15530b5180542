"""What a run leaves for people: curves and small tables."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...utils.files import written_atomically

if TYPE_CHECKING:
    from ...evaluation.coco import CocoFigures
    from ...evaluation.voc import VocFigures

LABEL_WIDTH = 14
GRID_WIDTH = 120
ABSENT = -1.0  # COCO's figure of a size of which there is no object


def draw_curves(history: Sequence[dict], path: Path, unit: str = 'epoch') -> None:
    """Draw loss and metrics over epochs (or iterations) into a PNG file.

    Metrics of the same size share a panel: percentages would flatten a loss to a line.

    Args:
        history: Entries ``{'step': 3, 'loss': 0.5, 'metrics': {'accuracy/top1': 91.0}}``.
        path: The file; written atomically.
        unit: What a step is.
    """
    if not history:
        return
    from matplotlib.figure import Figure

    names = _figures(history)
    panels = 2 if names else 1
    figure = Figure(figsize=(5 * panels, 3.6), layout='constrained')
    axes = figure.subplots(1, panels, squeeze=False)[0]
    losses = [(entry['step'], entry['loss']) for entry in history if 'loss' in entry]
    axes[0].plot(*zip(*losses, strict=True), marker='.', color='tab:red') if losses else None
    axes[0].set(title='training loss', xlabel=unit)
    for name in names:
        points = [(e['step'], e['metrics'][name]) for e in history if name in e.get('metrics', {})]
        axes[-1].plot(*zip(*points, strict=True), marker='.', label=name)
    if names:
        axes[-1].set(title='validation', xlabel=unit)
        axes[-1].legend(fontsize='small')
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    with written_atomically(path) as temporary:
        figure.savefig(temporary, format='png', dpi=110)


def _figures(history: Sequence[dict]) -> list[str]:
    """Names of the metrics, but for those that do not exist in any entry."""
    metrics = [entry.get('metrics', {}) for entry in history]
    return sorted({name for entry in metrics for name, value in entry.items() if value != ABSENT})


def format_table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A small table of names and values, as text for the console and the log file alike."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    width = max(40, len(title), *(LABEL_WIDTH + len(value) + 8 for _, value in rows))
    console = Console(file=io.StringIO(), width=width, color_system=None)
    # A title is no wider than its table: one with a path in it would be broken in two.
    options = {'title_justify': 'left', 'box': box.ROUNDED, 'min_width': len(title)}
    table = Table(title=title, show_header=False, **options)
    table.add_column(min_width=LABEL_WIDTH)
    table.add_column(overflow='fold')
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    return '\n' + console.file.getvalue().rstrip()


def format_grid(
    title: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    lines_before: Sequence[int] = (),
) -> str:
    """A table with headers as text; the first column is of names, the others of numbers.

    ``lines_before``: numbers of the rows that a line separates from the one above.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # a class may be called '[red]'

    console = Console(file=io.StringIO(), width=GRID_WIDTH, color_system=None)
    table = Table(title=title, title_justify='left', box=box.ROUNDED)
    for index, header in enumerate(headers):
        table.add_column(header, justify='right' if index else 'left', overflow='fold')
    for index, row in enumerate(rows):
        if index in lines_before:
            table.add_section()
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    return '\n' + console.file.getvalue().rstrip()


def format_figure(value: float) -> str:
    """A figure between 0 and 1 with three digits; ``-`` where it does not exist."""
    return f'{value:.3f}' if math.isfinite(value) else '-'


def coco_table(figures: CocoFigures) -> str:
    """COCO's figures for all objects, by size and by class."""
    rows = [
        (
            row.name,
            *map(format_figure, (row.ap, row.ap50, row.ap75, row.recall)),
            str(row.count),
        )
        for row in (*figures.sizes, *figures.classes)
    ]
    what = {'bbox': 'boxes', 'segm': 'masks'}[figures.kind]
    headers = ('', 'AP', 'AP50', 'AP75', 'AR', 'objects')
    return format_grid(f'COCO, {what}', headers, rows, (len(figures.sizes),))


def voc_table(figures: VocFigures, classes: Sequence[str]) -> str:
    """VOC's figures by class."""
    rows = [
        (name, format_figure(ap if count else math.nan), format_figure(recall), str(count))
        for name, (ap, recall, count) in zip(classes, figures.classes, strict=True)
    ]
    total = sum(count for *_, count in figures.classes)
    rows.insert(0, ('all', format_figure(figures.mean), '', str(total)))
    headers = ('', 'AP', 'recall', 'objects')
    return format_grid(f'VOC, IoU {figures.iou:.2f}', headers, rows, (1,))


def format_duration(seconds: float) -> str:
    """``'1 h 02 min'``, ``'3 min 05 s'`` or ``'7.2 s'``."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f'{minutes} min {rest:02d} s'
    return f'{minutes // 60} h {minutes % 60:02d} min'


def format_metrics(metrics: dict) -> str:
    """``'accuracy/top1 97.31, accuracy/top5 99.90'``; ``-`` for what does not exist."""
    parts = []
    for name, value in metrics.items():
        if value == ABSENT:
            parts.append(f'{name} -')
        elif isinstance(value, (int, float)) and math.isfinite(value):
            digits = 2 if abs(value) >= 1 else 4
            parts.append(f'{name} {value:.{digits}f}')
        else:
            parts.append(f'{name} {value}')
    return ', '.join(parts) or 'none'
