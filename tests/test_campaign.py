"""The campaign's programs start: what they make and break is there on this code."""

from __future__ import annotations

import pytest

pytest.importorskip('mmdet')
from benchmarks.campaign import files


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_the_files_of_a_network(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    (files.make_checkpoint if suffix == 'pth' else files.make_safetensors)()
    assert (tmp_path / f'weights.{suffix}').stat().st_size > 10_000
