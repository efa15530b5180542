"""The campaign's programs start: what they make and break is there on this code."""

from __future__ import annotations

import pytest

pytest.importorskip('mmdet')
from benchmarks.campaign import files, kills


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_the_files_of_a_network(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    (files.make_checkpoint if suffix == 'pth' else files.make_safetensors)()
    assert (tmp_path / f'weights.{suffix}').stat().st_size > 10_000


def test_what_is_written_at_once_is_read_whole_and_a_log_by_lines(tmp_path):
    """A log may end amid a line; the history of a training has many lines and is one document."""
    log = tmp_path / 'run' / 'vis_data' / 'run.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 1}\n{"lo')
    history = tmp_path / 'history.json'
    history.write_text('{\n "step": 5\n}')
    watcher = kills.Watcher(tmp_path)
    watcher.look()
    assert watcher.read == 2 and watcher.broken == []
    history.write_text('{\n "step"')
    log.write_text('{"loss"\n{"loss": 2}\n')
    watcher.look()
    assert watcher.read == 4
    assert sorted(line.split(':')[0] for line in watcher.broken) == ['history.json', 'run.json']
