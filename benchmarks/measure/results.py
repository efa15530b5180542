"""Speed, memory and size of models side by side, whole and in parts.

Workloads of one image size and batch are a group: they are held ready together, each in a process
of its own, and timed alternately. Products of large matrices are timed with each group, which show
what the machine could do meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from effvit_mm.errors import DataError
from effvit_mm.utils.files import write_text

from .alternating import Outcome, measure_alternately
from .timing import Timing
from .workload import BEFORE, BF16, GEMM, INT8, TRAINING, Workload

PARTIAL_SUFFIX = '.partial'


class Row(NamedTuple):
    """What was measured of a part of a workload.

    Attributes:
        model, form, size, batch_size: See :class:`.workload.Workload`.
        part: Which part of it.
        timing: Seconds of a batch.
        memory, process, multiply_adds, parameters: See :class:`.costs.Cost`.
        conversion: Seconds that making a runtime's file took; None where none was made.
    """

    model: str
    form: tuple[str, ...]
    size: tuple[int, int]
    batch_size: int
    part: str
    timing: Timing
    memory: int
    process: int
    multiply_adds: int
    parameters: int
    conversion: float | None = None

    @property
    def label(self) -> str:
        """As a command names the workload."""
        return Workload(self.model, self.form, self.size).label

    @property
    def images_per_second(self) -> float:
        """By the median."""
        return self.batch_size / self.timing.median


class Ratios(NamedTuple):
    """A row's figures over those of the baseline's row."""

    time: float
    memory: float
    multiply_adds: float


class Group(NamedTuple):
    """What was measured of workloads in alternation.

    Attributes:
        rows: One for each part.
        failures: ``[what was to be measured, what went wrong]`` of the others.
        gemm: Measured peak of products of matrices, FLOP/s, by ``'float32'`` and, where a row is
            of that form, ``'bfloat16'``.
    """

    rows: list[Row]
    failures: list[tuple[str, str]]
    gemm: dict[str, float]

    def share_of_peak(self, row: Row) -> float | None:
        """Multiply-adds a second, two FLOP each, beside the peak of float32 or bfloat16.

        None for steps of training, and for eight bits.
        """
        if TRAINING in row.form or INT8 in row.form:
            return None
        flops = 2 * row.multiply_adds * row.images_per_second
        return flops / self.gemm['bfloat16' if BF16 in row.form else 'float32']

    def ratios(self, row: Row, baseline: str) -> Ratios | None:
        """A row beside the baseline; times are medians, of the same run.

        Args:
            row: One of this group.
            baseline: Label of the workload to compare with.

        Returns:
            None where the baseline has no such part.
        """
        for other in self.rows:
            if other.label == baseline and other.part == row.part:
                return Ratios(
                    row.timing.median / other.timing.median,
                    # A very small network may find all that it needs in pages that are there.
                    row.memory / max(other.memory, 1),
                    row.multiply_adds / other.multiply_adds,
                )
        return None


def group_key(size: tuple[int, int], batch_size: int) -> str:
    """The name under which a group is kept: ``'224x224x8'``."""
    return 'x'.join(map(str, (*size, batch_size)))


def measure_group(
    workloads: Sequence[Workload],
    threads: int,
    repeats: int = 20,
    warm_up: int = 2,
    before: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
    debug: bool = False,
) -> Group:
    """Measure workloads of one image size and batch.

    Args:
        workloads: What is measured.
        threads: Of PyTorch and the runtimes, in each process.
        repeats: Timed passes of each part.
        warm_up: Passes of each before those.
        before: Folder of the other tree, for workloads whose form says so.
        tell: Called with a line on what was done.
        debug: Tell the tracebacks of failures.
    """
    # Without bfloat16's instructions its products take a hundred times as long.
    form = (BF16,) if any(BF16 in one.form for one in workloads) else ()
    gemm = Workload(GEMM, form, workloads[0].size)
    with_trees = [(one, before if BEFORE in one.form else None) for one in (gemm, *workloads)]
    peak, *outcomes = measure_alternately(with_trees, threads, repeats, warm_up, tell)
    if peak.error:
        raise RuntimeError(f'products of matrices failed: {peak.error}\n{peak.details}')
    rows, failures = [], []
    for workload, outcome in zip(workloads, outcomes, strict=True):
        rows += make_rows(workload, outcome)
        if outcome.error:
            failures.append((str(workload), outcome.error))
        if outcome.error and debug:
            tell(f'{workload} failed: {outcome.details}')
    flops = {name: 2 * peak.costs[name][2] / t.median for name, t in peak.timings.items()}
    return Group(rows, failures, flops)


def make_rows(workload: Workload, outcome: Outcome) -> list[Row]:
    """A row for each part; none after a failure."""
    model, form, size, batch_size = workload[:4]
    return [
        Row(model, form, size, batch_size, part, outcome.timings[part], *cost, outcome.conversion)
        for part, cost in outcome.costs.items()
    ]


class PartialResults:
    """Groups that were measured, kept in a file while others are missing.

    Args:
        out: File that the whole is for; the parts are beside it, with ``.partial`` behind the name.
            None keeps nothing.
        settings: What a later call must agree in to go on.

    Raises:
        DataError: What lies there is of other settings, or no such file.
    """

    def __init__(self, out: Path | None, settings: Mapping) -> None:
        self.path = None if out is None else out.with_name(out.name + PARTIAL_SUFFIX)
        self.settings = json.loads(json.dumps(settings))
        self.groups: dict[str, Group] = {}
        if self.path is not None and self.path.is_file():
            self._read()

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text())
            settings, groups = content['settings'], content['groups']
            self.groups = {key: _group(value) for key, value in groups.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{self.path} is not of this tool: remove it') from error
        for name in sorted({*settings, *self.settings}):
            there, asked = settings.get(name), self.settings.get(name)
            if there != asked:
                raise DataError(
                    f'{self.path}, of a benchmark that was interrupted, has {name} {there!r}, not '
                    f'{asked!r}: call it with that to go on, or remove the file'
                )

    def keep(self, key: str, group: Group) -> None:
        """Add a group, and write all of them."""
        self.groups[key] = group
        if self.path is not None:
            groups = {name: plain(one) for name, one in self.groups.items()}
            content = {'settings': self.settings, 'groups': groups}
            write_text(self.path, json.dumps(content, indent=1) + '\n')

    def remove(self) -> None:
        """Remove the file: the whole is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def plain(value: object) -> object:
    """Named tuples as dicts, for JSON."""
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def _group(value: Mapping) -> Group:
    rows = [
        Row(**{**row, 'form': tuple(row['form']), 'size': tuple(row['size']),
               'timing': Timing(**row['timing'])})
        for row in value['rows']
    ]  # fmt: skip
    return Group(rows, [tuple(pair) for pair in value['failures']], value['gemm'])
