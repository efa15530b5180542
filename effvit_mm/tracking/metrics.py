"""HOTA, MOTA and IDF1 of tracks, by the package ``trackers``, whose figures are TrackEval's."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..utils.text import shorten
from .mot import read_mot
from .tracker import import_trackers

NOBODY = '1,-1,0,0,1,1,0\n'  # a row that the package passes over: files without one it refuses
COMBINED = 'all'


class Figures(NamedTuple):
    """Of one sequence, or of all together; the first seven in percent.

    Attributes:
        HOTA, DetA, AssA: Luiten et al. (2021): mean over IoU thresholds from 0.05 to 0.95.
        MOTA: Bernardin and Stiefelhagen (2008), IoU 0.5.
        IDF1, IDP, IDR: Ristani et al. (2016), IoU 0.5.
        switches: How often a person's number changes.
        fragments: How often a person is lost and found again.
    """

    HOTA: float
    DetA: float
    AssA: float
    MOTA: float
    IDF1: float
    IDP: float
    IDR: float
    switches: int
    fragments: int


def find_truths(folder: str | Path) -> dict[str, Path]:
    """``gt/gt.txt`` of each sequence below a folder in MOT17's layout, by name.

    Raises:
        DataError: There is none.
    """
    folder = Path(folder)
    found = {path.parents[1].name: path for path in sorted(folder.glob('*/gt/gt.txt'))}
    if not found and (folder / 'gt' / 'gt.txt').is_file():
        found = {folder.resolve().name: folder / 'gt' / 'gt.txt'}
    if not found:
        raise DataError(f'{folder}: no sequence with gt/gt.txt in it')
    return found


def evaluate_tracks(truths: Mapping[str, Path], folder: str | Path) -> dict[str, Figures]:
    """Figures of each sequence, and of all under ``'all'``.

    As in MOT17, pedestrians (class 1) that are to be considered count, and what was found at
    people on vehicles, statues, distractors and reflections is passed over.

    Args:
        truths: ``gt.txt`` of each sequence by its name.
        folder: Where ``<name>.txt`` of each is.

    Raises:
        ConfigError: The package is not installed.
        DataError: A file is missing or cannot be read.
    """
    import_trackers()
    results = {}
    with tempfile.TemporaryDirectory() as place:
        stand_in = Path(place) / 'empty.txt'
        stand_in.write_text(NOBODY)
        for name, truth in truths.items():
            file = Path(folder) / f'{name}.txt'
            if not file.is_file():
                there = shorten(sorted(path.name for path in Path(folder).glob('*.txt')))
                raise DataError(
                    f'{file}: no such file: tracks have the name of their sequence; {folder} has '
                    f'{there or "none"}'
                )
            paths = [path if read_mot(path) else stand_in for path in (truth, file)]
            results[name] = _evaluate(*paths)
    together = _combine(list(results.values()))
    figures = {name: _figures(*parts) for name, parts in results.items()}
    return {**figures, COMBINED: _figures(*together)}


def _evaluate(truth: Path, file: Path) -> tuple[dict, dict, dict]:
    from trackers.eval import evaluate_mot_sequence

    try:
        found: Any = evaluate_mot_sequence(truth, file, metrics=['CLEAR', 'HOTA', 'Identity'])
    except ValueError as error:
        raise DataError(f'{file} or {truth}: {error}') from error
    hota = found.HOTA.to_dict(include_arrays=True, arrays_as_list=False)
    return hota, found.CLEAR.to_dict(), found.Identity.to_dict()


def _combine(parts: Sequence[tuple[dict, dict, dict]]) -> tuple[dict, dict, dict]:
    from trackers.eval import (
        aggregate_clear_metrics,
        aggregate_hota_metrics,
        aggregate_identity_metrics,
    )

    hota, clear, identity = zip(*parts, strict=True)
    return (
        aggregate_hota_metrics(list(hota)),
        aggregate_clear_metrics(list(clear)),
        aggregate_identity_metrics(list(identity)),
    )


def _figures(hota: dict[str, Any], clear: dict[str, Any], identity: dict[str, Any]) -> Figures:
    percent = [hota['HOTA'], hota['DetA'], hota['AssA'], clear['MOTA']]
    percent += [identity[key] for key in ('IDF1', 'IDP', 'IDR')]
    values = [*(100 * value for value in percent), clear['IDSW'], clear['Frag']]
    return Figures._make(values)


def as_table(results: Mapping[str, Mapping[str, Figures]]) -> str:
    """Markdown: a row for each way of tracking and sequence."""
    columns = ('HOTA', 'DetA', 'AssA', 'MOTA', 'IDF1', 'switches', 'fragments')
    lines = [f'| tracks | sequence | {" | ".join(columns)} |', '| :-- | :-- |' + ' --: |' * 7]
    for way, figures in results.items():
        for name, found in figures.items():
            cells = [getattr(found, column) for column in columns]
            cells = [f'{cell:.1f}' if isinstance(cell, float) else str(cell) for cell in cells]
            lines.append(f'| {way} | {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)
