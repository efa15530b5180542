"""The results of a benchmark as a table, as JSON, and as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from .loading import NETWORK
from .published import published_accuracy
from .report import markdown_table
from .results import Group, Ratios, Row, plain
from .tradeoff import Point, draw_curves, draw_pareto
from .workload import BF16, CONFIG, EAGER, INT8, kind_of

HEADER = (
    'model', 'form', 'part', 'pixels', 'batch', 'median', '25 to 75 %', 'images/s', 'of GEMM peak',
    'memory', 'process', 'multiply-adds', 'parameters', 'conversion',
)  # fmt: skip
RATIOS = ('time ratio', 'memory ratio', 'multiply-adds ratio')
PATCH = 16  # pixels of the side of what counts as a token in pictures
NONE = '-'
NOTES = """\
{machine}; {versions}; load average {load} when it began. Weights {weights}, images {image}.
Medians and quartiles of {repeats} passes of each after {warm_up} to warm up, those of one size and
batch alternately (A B A B ...), each model in a process of its own. Without a word of its own the
form is eager: float32, the form of training, in evaluation mode.
GEMM peak: products of two square matrices, between the rest. {gemm}.
Two FLOP a multiply-add; bf16 is compared with bfloat16's peak. Memory is the largest resident set
(Linux's VmHWM, 10^6 bytes to the MB) above that before the first pass, with a runtime's packed
weights; process is all of it, libraries, weights and torch.compile included. Multiply-adds are of
one image (the forward pass of a training step), padded as the network gets it; a detector's second
stage has all the boxes that it takes at most. Conversion is what `effvit_mm.compile` took to make a
runtime's file and compare it with PyTorch, in another process; there is none where the file was
there.
"""
RATIO_NOTE = '`{baseline}` has the ratios 1: time is median over median, of the same run.\n'


def header(baseline: str | None) -> tuple[str, ...]:
    """Of the table's columns."""
    return HEADER + (RATIOS if baseline else ())


def table_rows(groups: Sequence[Group], baseline: str | None) -> Iterator[list[str]]:
    """Rows of the table as text."""
    for group in groups:
        for row in group.rows:
            share = group.share_of_peak(row)
            cells = [
                f'`{shown_name(row)}`',
                '+'.join(row.form) or EAGER,
                row.part,
                f'{row.size[0]} x {row.size[1]}',
                str(row.batch_size),
                f'{1000 * row.timing.median:.1f} ms',
                f'{1000 * row.timing.low:.1f} to {1000 * row.timing.high:.1f} ms',
                f'{row.images_per_second:.2f}',
                NONE if share is None else f'{100 * share:.1f} %',
                f'{row.memory / 1e6:.1f} MB',
                f'{row.process / 1e9:.2f} GB',
                f'{row.multiply_adds / 1e9:.3f} G',
                f'{row.parameters / 1e6:.3f} M',
                NONE if row.conversion is None else f'{row.conversion:.1f} s',
            ]
            if baseline:
                ratios = group.ratios(row, baseline)
                cells += [f'{r:.3f}' for r in ratios] if ratios else [NONE] * len(RATIOS)
            yield cells


def shown_name(row: Row) -> str:
    """A config's name without its folder, or the model's."""
    return Path(row.model).stem if kind_of(row.model) == CONFIG else row.model


def short_label(row: Row) -> str:
    """The label for pictures."""
    return '@'.join((shown_name(row), '+'.join(row.form))) if row.form else shown_name(row)


def notes(groups: Mapping[str, Group], circumstances: Mapping, baseline: str | None) -> str:
    """How the table came about, and what could not be measured."""
    peaks = []
    for name, group in groups.items():
        values = ', '.join(f'{kind} {peak / 1e9:.0f}' for kind, peak in group.gemm.items())
        peaks.append(f'{name} (height, width, batch): {values} GFLOP/s')
    text = NOTES.format(**circumstances, gemm='; '.join(peaks))
    if baseline:
        text += RATIO_NOTE.format(baseline=baseline)
    failures = [pair for group in groups.values() for pair in group.failures]
    if failures:
        lines = ''.join(f'- {workload}: {error}\n' for workload, error in failures)
        text += f'\nNot measured:\n\n{lines}'
    return text


def markdown(groups: Mapping[str, Group], circumstances: Mapping, baseline: str | None) -> str:
    """The table and its notes."""
    table = markdown_table(header(baseline), list(table_rows(list(groups.values()), baseline)))
    return f'{table}\n{notes(groups, circumstances, baseline)}'


def as_json(
    groups: Mapping[str, Group], circumstances: Mapping, baseline: str | None
) -> dict[str, object]:
    """All of it as JSON holds it."""
    rows = []
    for group in groups.values():
        for row in group.rows:
            ratios = group.ratios(row, baseline) if baseline else None
            rows.append({
                **plain(row),
                'images_per_second': row.images_per_second,
                'share_of_peak': group.share_of_peak(row),
                **{f'{name}_ratio': ratios and getattr(ratios, name) for name in Ratios._fields},
            })  # fmt: skip
    return {
        **circumstances,
        'baseline': baseline,
        'gemm_flops_per_second': {key: group.gemm for key, group in groups.items()},
        'failures': [list(pair) for group in groups.values() for pair in group.failures],
        'rows': rows,
    }


# Pictures ----------------------------------------------------------------------------------------


def draw_pictures(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw what the rows are enough for; gives the files.

    Accuracy against latency needs networks whose accuracy is printed, at the size that it is
    printed for, and takes each in its fastest form; latency against resolution, and memory against
    tokens, need two sizes.
    """
    drawn = []
    accuracy = accuracy_panels(rows)
    if accuracy:
        drawn.append(folder / 'accuracy_latency.png')
        draw_pareto(accuracy, drawn[-1], 'ImageNet-1k top-1 of the sources, %')
    if len({row.size for row in rows}) > 1:
        drawn.append(folder / 'latency_resolution.png')
        draw_curves(resolution_panels(rows), drawn[-1], 'latency, ms')
        drawn.append(folder / 'memory_tokens.png')
        draw_curves(token_panels(rows), drawn[-1], 'peak memory above that before, MB')
    return drawn


def accuracy_panels(rows: Sequence[Row]) -> dict[str, dict[str, list[Point]]]:
    """A point for each network of known accuracy, by whose it is; a panel for each batch.

    A network that was measured in several forms has the point of the fastest. Forms of less than
    float32 have none: what is printed was not found with them.
    """
    panels: dict[str, dict[str, list[Point]]] = {}
    seen = set()
    for row in sorted(rows, key=lambda row: row.timing.median):
        accuracy = published_accuracy(row.model) if row.part == NETWORK else None
        exact = not {BF16, INT8} & set(row.form)
        if accuracy is None or row.size != (accuracy.size, accuracy.size) or not exact:
            continue
        if (row.model, row.batch_size) not in seen:
            seen.add((row.model, row.batch_size))
            kinds = panels.setdefault(f'latency of {count_images(row.batch_size)}, ms', {})
            label = short_label(row).partition(':')[2] or short_label(row)
            point = Point(1000 * row.timing.median, accuracy.top1, label)
            kinds.setdefault(kind_of(row.model), []).append(point)
    return {title: dict(sorted(kinds.items())) for title, kinds in panels.items()}


def resolution_panels(rows: Sequence[Row]) -> dict[str, dict[str, list[Point]]]:
    """Latency over the side of a square with as many pixels, a panel for each batch."""
    return series_panels(
        rows,
        'resolution, pixels ({})',
        lambda row: Point((row.size[0] * row.size[1]) ** 0.5, 1000 * row.timing.median),
    )


def token_panels(rows: Sequence[Row]) -> dict[str, dict[str, list[Point]]]:
    """Peak memory over the patches of 16 x 16 pixels, a panel for each batch."""
    return series_panels(
        rows,
        f'tokens: patches of {PATCH} x {PATCH} pixels ({{}})',
        lambda row: Point(row.size[0] * row.size[1] / PATCH**2, row.memory / 1e6),
    )


def series_panels(rows: Sequence[Row], title: str, point) -> dict[str, dict[str, list[Point]]]:
    panels: dict[str, dict[str, list[Point]]] = {}
    for batch, of_batch in groupby(sorted(rows, key=batch_and_pixels), lambda row: row.batch_size):
        series: dict[str, list[Point]] = {}
        for row in of_batch:
            name = short_label(row)
            name = name if row.part == NETWORK else f'{name}, {row.part}'
            series.setdefault(name, []).append(point(row))
        panels[title.format(count_images(batch))] = series
    return panels


def count_images(count: int) -> str:
    return f'{count} image{"s" * (count > 1)}'


def batch_and_pixels(row: Row) -> tuple[int, int]:
    return row.batch_size, row.size[0] * row.size[1]
