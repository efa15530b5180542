"""Two processes as torchrun starts them: a fault ends both, in one line, and nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from coco_sets import make_config

pytest.importorskip('mmdet')
REPOSITORY = Path(__file__).parents[1]
FAILING = """
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from effvit_mm.errors import DataError


@HOOKS.register_module()
class FailOnRank(Hook):
    def after_train_iter(self, runner, batch_idx, **_):
        if runner.iter == 1 and get_rank() == 1:
            raise DataError('7.png cannot be read')
"""
CONFIG = """
_base_ = './detector.py'
custom_imports = dict(imports=['failing_on_rank'])
custom_hooks = [dict(type='FailOnRank')]
train_cfg = dict(max_epochs=3)
"""


def run(folder: Path, config: str) -> tuple[int, list[str]]:
    """Exit code, and the lines of errors that are ours."""
    done = subprocess.run(
        ['bash', str(REPOSITORY / 'tools' / 'dist_train.sh'), config, '2', '--work-dir', 'w'],
        capture_output=True, text=True, cwd=folder, timeout=120,
        env={
            **os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(folder),
            'PYTHON': sys.executable,
        },
    )  # fmt: skip
    said = (done.stdout + done.stderr).splitlines()
    return done.returncode, [line for line in said if line.startswith('error')]


def test_a_broken_annotation_file(trainers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_config(tmp_path)
    path = tmp_path / 'data' / 'train.json'
    path.write_text(path.read_text()[:-40])
    script = REPOSITORY / 'tools' / 'train.py'
    ended = trainers.run_ranks(script, 'detector.py', '--work-dir', 'w', '--launcher', 'pytorch')
    assert [done.returncode for done in ended] == [2, 2]
    (line,) = ''.join(done.stderr for done in ended).splitlines()
    assert line.startswith(f'error: annotation file {path} is cut short')


def test_a_process_that_fails_in_the_middle(tmp_path):
    make_config(tmp_path)
    (tmp_path / 'failing_on_rank.py').write_text(FAILING)
    (tmp_path / 'failing.py').write_text(CONFIG)
    code, lines = run(tmp_path, 'failing.py')
    assert code != 0 and lines == ['error (rank 1): 7.png cannot be read']
