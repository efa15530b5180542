"""What the system does to a run, a worker killed or a full disk, is one line."""

from __future__ import annotations

import errno
import logging
import os
import signal
from pathlib import Path

import pytest
from mmengine.registry import TRANSFORMS
from remedies import tries
from torch.utils.data import DataLoader, get_worker_info
from trainer import forget_runs, make_folder, write_config

from effvit_mm.openmm import cli
from effvit_mm.openmm.console import quieten
from effvit_mm.openmm.error_messages import as_user_error


@TRANSFORMS.register_module()
class KilledWhereThereAreWorkers:
    """As the system ends a process where memory is short."""

    def __call__(self, sample: dict) -> dict:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return sample


@tries('lower train_dataloader.num_workers, 0 for none')
def test_a_killed_worker(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    extra = (
        "pipeline.insert(1, dict(type='mmengine.KilledWhereThereAreWorkers'))\n"
        "train_cfg.update(max_epochs=1)\ntrain_dataloader['num_workers'] = 1\n"
    )
    config = write_config(Path('c.py'), make_folder(tmp_path / 'data', 2, 1), extra)
    forget_runs()
    assert cli.train([str(config), '--work-dir', 'w']) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith('error')]
    assert len(errors) == 1 and 'a data loader was ended ' in errors[0]
    forget_runs()
    less = ['--cfg-options', 'train_dataloader.num_workers=0']
    assert cli.train([str(config), '--work-dir', 'w', *less]) == 0


def test_a_worker_that_was_ended_without_a_signal_that_is_seen():
    error = as_user_error(RuntimeError('DataLoader worker (pid(s) 12, 13) exited unexpectedly'))
    assert 'was ended from outside' in str(error)


class Broken:
    """A worker's results, of which it sent a part."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get(self, timeout: float) -> None:
        raise self.error


@pytest.mark.parametrize(
    'error', [ConnectionResetError(104, 'reset'), EOFError(), FileNotFoundError(2, 'No such file')]
)
def test_a_worker_that_ends_while_it_sends(error):
    batches = iter(DataLoader(range(4), num_workers=1))
    queue, batches._data_queue = batches._data_queue, Broken(error)
    try:
        with pytest.raises(type(error)) as raised:
            next(batches)
    finally:
        batches._data_queue = queue
        batches._shutdown_workers()  # the error's frames keep it alive
    assert 'a data loader was ended from outside' in str(as_user_error(raised.value))
    assert as_user_error(type(error)(*error.args)) is None  # from anywhere else


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EROFS, errno.EFBIG])
def test_a_disk_that_takes_no_more(number):
    """Writing to an open file tells no name."""
    error = as_user_error(OSError(number, os.strerror(number)))
    assert str(error) == f'a file cannot be written: {os.strerror(number)}'
    assert as_user_error(OSError(errno.EBADF, 'x')) is None


def test_a_log_on_a_full_disk_is_told_of_once(capfd):
    logger = logging.getLogger('test of a full disk')
    logger.propagate = False
    logger.addHandler(logging.FileHandler('/dev/full'))
    quieten(logger)
    try:
        for _ in range(3):
            logger.warning('a line')
    finally:
        handler = logger.handlers.pop()
        with open(os.devnull, 'wb') as sink:  # what it holds has to go somewhere
            os.dup2(sink.fileno(), handler.stream.fileno())
        handler.close()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith('warning: /dev/full cannot be written: ') and 'No space' in line
