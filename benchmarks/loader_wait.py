"""Print which share of a training's time its steps waited for data, epoch by epoch.

Example: ``python -m benchmarks.loader_wait work_dirs/pslt-tiny_fashion-mnist``
"""

import argparse
import json
import sys
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
    logs = sorted(Path(folder).glob('*/vis_data/scalars.json'))
    if not logs:
        raise DataError(f'{folder}: no training has left its */vis_data/scalars.json in it')
    return logs[-1]


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


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='python -m benchmarks.loader_wait', description=__doc__.split('\n')[0])
    parser.add_argument('work_dir', help='of a training; the newest log in it is read')
    return parser


def work(args: argparse.Namespace, session) -> None:
    from benchmarks.measure.report import markdown_table

    log = find_log(args.work_dir)
    rows = [
        [str(w.epoch), f'{1000 * w.data_time:.1f} ms', f'{1000 * w.time:.1f} ms', f'{w.share:.1%}']
        for w in read_waits(log)
    ]
    print(f'{log}\n\n{markdown_table(["epoch", "waiting", "step", "share"], rows)}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
