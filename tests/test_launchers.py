"""``--launcher`` in a process that no launcher has started, and in one that it has."""

from __future__ import annotations

import os

import pytest
import torch
from mmengine.dist import get_rank, get_world_size
from remedies import said, tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.openmm import cli
from effvit_mm.openmm.engine.processes import STARTS, TOLD, open_group
from effvit_mm.openmm.ranks import leave_group

VARIABLES = {name for names in TOLD.values() for name in names} | {'LOCAL_RANK', 'SLURM_LOCALID'}
STARTED = {
    'pytorch': {'RANK': '0', 'WORLD_SIZE': '1', 'MASTER_PORT': '29519'},
    'slurm': {'SLURM_PROCID': '0', 'SLURM_NTASKS': '1', 'SLURM_LOCALID': '0'},
    'mpi': {
        'OMPI_COMM_WORLD_RANK': '0', 'OMPI_COMM_WORLD_SIZE': '1', 'OMPI_COMM_WORLD_LOCAL_RANK': '0',
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Without what launchers set, and as it was afterwards."""
    for name in VARIABLES:
        monkeypatch.setenv(name, '')  # what a test sets itself goes afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    return monkeypatch


@tries('launcher starts; start it by {}', 'train.py CONFIG --launcher mpi')
@pytest.mark.parametrize('launcher', STARTED)
@pytest.mark.parametrize('tool', ['train', 'test'])
def test_a_process_that_no_launcher_started_ends_with_one_line(launcher, tool, tmp_path, capfd):
    config = write_config(tmp_path / 'c.py', make_folder(tmp_path, train=1, val=1))
    weights = tmp_path / 'a.pth'
    weights.touch()
    forget_runs()
    words = [str(config), *([str(weights)] if tool == 'test' else [])]
    code = getattr(cli, tool)([*words, '--work-dir', str(tmp_path / 'w'), '--launcher', launcher])
    err = capfd.readouterr().err
    assert code == 2
    assert err == (
        f'error: --launcher {launcher}: {TOLD[launcher][0]} is not set, as it is in processes that '
        f'this launcher starts; start it by {STARTS[launcher]}\n'
    )
    assert said('launcher starts; start it by {}', err)
    assert not (tmp_path / 'w').exists()


@tries('is not set; set it to the name of the machine')
@pytest.mark.parametrize('launcher', STARTED)
def test_a_process_that_a_launcher_started_joins_the_others(launcher, environment):
    environment.setenv('MASTER_PORT', '29519')
    environment.setenv('MASTER_ADDR', '')
    environment.delenv('MASTER_ADDR')
    for name, value in STARTED[launcher].items():
        environment.setenv(name, value)
    with pytest.raises(cli.ConfigError, match=f'^--launcher {launcher}: MASTER_ADDR is not set'):
        open_group(launcher, {})
    environment.setenv('MASTER_ADDR', '127.0.0.1')
    try:
        open_group(launcher, {})
        assert (get_rank(), get_world_size()) == (0, 1)
        assert launcher == 'pytorch' or os.environ['LOCAL_RANK'] == '0'
    finally:
        leave_group()
