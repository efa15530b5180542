"""A matrix of what is taken for what, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .names import fonts


def draw_confusion(
    shares: np.ndarray,
    cells: np.ndarray | None,
    columns: Sequence[str],
    rows: Sequence[str],
    title: str,
) -> Figure:
    """Shares of a row as colours: classes differ in how often they occur.

    Args:
        shares: (R, C), 0 to 1; rows are the true classes, columns the predicted ones.
        cells: (R, C), what is written where a share is above 0; None for nothing.
        columns: C names, or none.
        rows: R names, or none.
        title: Above it.
    """
    side = min(3.5 + 0.35 * len(shares), 16)
    figure = Figure(figsize=(side + 1, side), layout='constrained')
    axis = figure.subplots()
    image = axis.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares if cells is not None else shares[:0]):
        if share:
            color = 'white' if share > 0.5 else 'black'
            text = cells[row, column]
            axis.text(column, row, text, ha='center', va='center', color=color, fontsize=8)
    style = {'fontsize': 8, 'family': fonts()}
    if len(columns):
        axis.set_xticks(range(len(columns)), columns, rotation=90, **style)
    if len(rows):
        axis.set_yticks(range(len(rows)), rows, **style)
    axis.set(xlabel='predicted', ylabel='true', title=title)
    figure.colorbar(image, ax=axis, label='share of the row', shrink=0.8)
    return figure
