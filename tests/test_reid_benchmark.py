"""The benchmark of re-ID evaluation, small and in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import benchmark_reid
from benchmarks.measure import isolation, reid

SMALL = ['--scale', '0.02', '--threads', '1', '--torchreid-queries', '40']


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measure here, and note what was measured."""
    names = []

    def run_here(function, *arguments):
        names.append(function.__name__)
        return isolation.Isolated(function(*arguments), 0)

    monkeypatch.setattr(isolation, 'run_isolated', run_here)
    return names


def test_table_and_going_on(measured: list[str], tmp_path: Path, capsys) -> None:
    out = tmp_path / 'benchmark.json'
    arguments = [*SMALL, '--out', str(out)]
    assert benchmark_reid.main(arguments) == 0
    assert len(measured) == 7  # all but torchreid's re-ranking of MSMT17
    printed = capsys.readouterr().out
    rows = [line.strip('| ').split(' | ') for line in printed.splitlines() if line[:1] == '|'][2:]
    assert [row[0] for row in rows] == [
        f'{work} {name}' for name in ('Market-1501', 'MSMT17') for work in benchmark_reid.WORKS
    ]
    assert rows[0][1] == '67 x 318' and rows[2][1] == '233 x 1,643'
    assert rows[2][4].startswith('~') and not rows[0][4].startswith('~')
    assert rows[3][4:] == ['-'] * 4

    found = json.loads(out.read_text())['measurements']
    assert found['torchreid evaluation Market-1501']['difference'] < 1e-6
    assert found['torchreid evaluation MSMT17']['queries'] == 40
    figures = [found[f'{ours}re-ranking Market-1501']['mAP'] for ours in ('', 'torchreid ')]
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)
    assert figures[0] > found['evaluation Market-1501']['mAP'] + 0.05

    del found['evaluation MSMT17']
    content = {**json.loads(out.read_text()), 'measurements': found}
    out.write_text(json.dumps(content))
    measured.clear()
    assert benchmark_reid.main(arguments) == 0
    assert measured == ['measure_evaluation']
    assert benchmark_reid.main([*arguments, '--scale', '0.01']) == 2
    assert 'was measured with' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--scale', '0'], '--scale 0.0: more than 0 is needed'),
        (['--torchreid-queries', '-1'], '--torchreid-queries -1'),
        (['--out', 'x.md'], '--out x.md: a name ending in .json is needed'),
        (['--sets', 'VIPeR'], "invalid choice: 'VIPeR'"),
    ],
)
def test_wrong_arguments(measured, capsys, arguments: list[str], message: str) -> None:
    assert benchmark_reid.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert measured == []


def test_features_are_clustered_and_always_the_same() -> None:
    size = reid.SETS[0].scaled(0.03)
    (query, gallery), again = reid.make_features(size), reid.make_features(size)
    np.testing.assert_array_equal(gallery.features, again[1].features)
    assert (len(query), len(gallery), query.width) == (size.queries, size.gallery, 512)
    unit = [f.features / np.linalg.norm(f.features, axis=1, keepdims=True) for f in again]
    cosines = unit[0] @ unit[1].T
    same = query.pids[:, None] == gallery.pids
    assert cosines[same].mean() > cosines[~same].mean() + 0.1
