"""How much of a training's time its steps wait for data, by mmengine's log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from effvit_mm.errors import DataError


class Wait(NamedTuple):
    """Means over the logged steps of an epoch, in seconds.

    Attributes:
        epoch: From 1.
        data_time: From the end of a step until the next one has its batch.
        time: Of a whole step, that included.
    """

    epoch: int
    data_time: float
    time: float

    @property
    def share(self) -> float:
        """Of the time that is waiting."""
        return self.data_time / self.time


def find_log(folder: str | Path) -> Path:
    """The newest log of a work folder, for programs: ``<date>/vis_data/scalars.json``.

    Raises:
        DataError: There is none.
    """
    found = sorted(Path(folder).glob('*/vis_data/scalars.json'))
    if not found:
        raise DataError(f'{folder}: no training has left its */vis_data/scalars.json in it')
    return found[-1]


def read_waits(log: str | Path) -> list[Wait]:
    """One for each epoch of a log; lines that are of no training step are left out.

    Raises:
        DataError: The log is broken, or has no training step.
    """
    epochs: dict[int, list[tuple[float, float]]] = {}
    try:
        for line in Path(log).read_text().splitlines():
            entry = json.loads(line)
            if 'loss' in entry and 'data_time' in entry:
                times = epochs.setdefault(entry.get('epoch', 1), [])
                times.append((entry['data_time'], entry['time']))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{log} is no log of a training: {error}') from error
    if not epochs:
        raise DataError(f'{log} has no line of a training step')
    return [
        Wait(epoch, *(sum(values) / len(values) for values in zip(*times, strict=True)))
        for epoch, times in epochs.items()
    ]
