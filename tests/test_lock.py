"""The work folder: one run at a time writes there, and a start that fails leaves no logs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from filelock import FileLock
from remedies import tries
from trainer import REPOSITORY, forget_runs, make_folder, write_config

from effvit_mm.errors import ConfigError
from effvit_mm.openmm import cli
from effvit_mm.openmm.engine.hooks import NonFiniteLossHook
from effvit_mm.openmm.engine.testing import ForwardTimer
from effvit_mm.utils.lock import NAME, FolderLock

# A run with a worker that outlives it for a while, as a data loader's does.
HOLDER = """
import os, sys, time
from effvit_mm.utils.lock import FolderLock
lock = FolderLock(sys.argv[1], 'work_dir')
lock.take()
worker = os.fork()
if worker:
    print(worker, flush=True)
time.sleep(100)
"""
LOOK = """
import sys
from effvit_mm.errors import ConfigError
from effvit_mm.utils.lock import FolderLock
try:
    FolderLock(sys.argv[1], 'work_dir').take()
except ConfigError:
    print('held')
"""
LINE = (
    'work_dir: another run is writing into w; wait for its end, or give another folder: '
    '--work-dir DIR'
)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp('data'))


@pytest.fixture
def config(tmp_path, data, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(write_config(tmp_path / 'tiny.py', data, 'train_cfg.update(max_epochs=1)\n'))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, data) -> str:
    folder = tmp_path_factory.mktemp('trained')
    forget_runs()
    config = write_config(folder / 'tiny.py', data, 'train_cfg.update(max_epochs=1)\n')
    assert cli.train([str(config), '--work-dir', str(folder / 'w')]) == 0
    return str(folder / 'w' / 'epoch_1.pth')


@pytest.fixture
def holding(pythons) -> Callable:
    """``with holding(folder):`` another process holds it; it is killed, its worker only then."""

    @contextmanager
    def hold(folder: Path) -> Iterator[Callable[[], None]]:
        holder = pythons.start('-c', HOLDER, folder)
        while not (worker := holder.files[0].read_text().strip()):
            assert holder.poll() is None, holder.communicate()
            time.sleep(0.01)

        def kill() -> None:
            if holder.poll() is None:
                holder.kill()
                holder.wait()

        try:
            yield kill
        finally:
            kill()
            with suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)

    return hold


@pytest.fixture
def is_held(pythons) -> Callable[[Path], bool]:
    """Whether another process is kept out."""

    def look(folder: Path) -> bool:
        done = pythons.run('-c', LOOK, folder)
        assert done.returncode == 0, done.stderr
        return done.stdout == 'held\n'

    return look


def run(command: Callable, *arguments: str) -> int:
    forget_runs()
    return command(list(arguments))


def log_folders() -> list[str]:
    return sorted(path.name for path in Path('w').iterdir() if path.is_dir())


# One run at a time ----------------------------------------------------------------------------


def test_a_lock_ends_with_its_process_though_a_worker_lives_on(tmp_path, holding):
    lock = FolderLock(tmp_path / 'new' / 'w', 'work_dir')
    with holding(lock.folder) as kill:
        with pytest.raises(ConfigError, match=r'^work_dir: another run is writing'):
            lock.take()
        kill()
        lock.take()
    assert [path.name for path in lock.folder.iterdir()] == [NAME]
    lock.release()
    lock.release()  # of what is not held


def test_where_nothing_can_be_locked_a_run_goes_on(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError(37, 'No locks available')

    monkeypatch.setattr(FileLock, 'acquire', refuse)
    lock = FolderLock(tmp_path, 'work_dir')
    lock.take()
    lock.release()


@tries('wait for its end, or give another folder: --work-dir DIR')
def test_a_second_run_ends_at_once_and_changes_nothing(config, checkpoint, holding, capfd):
    with holding(Path('w')) as kill:
        for command, arguments in ((cli.train, []), (cli.train, ['--resume']),
                                   (cli.test, [checkpoint])):  # fmt: skip
            assert run(command, config, *arguments, '--work-dir', 'w') == 2
            assert capfd.readouterr().err == f'error: {LINE}\n'
            assert [path.name for path in Path('w').iterdir()] == [NAME]
        assert run(cli.train, config, '--work-dir', 'v') == 0
        kill()
        assert run(cli.train, config, '--work-dir', 'w', '--resume') == 0
    assert Path('w/epoch_1.pth').exists()


def test_a_training_holds_its_folder_for_its_length(config, is_held, monkeypatch):
    seen = []
    monkeypatch.setattr(
        NonFiniteLossHook,
        'after_train_iter',
        lambda *_, **__: seen or seen.append(is_held(Path('w'))),
    )
    assert run(cli.train, config, '--work-dir', 'w') == 0
    assert set(seen) == {True} and not is_held(Path('w'))
    assert run(cli.train, config, '--work-dir', 'w', '--cfg-options', 'train_cfg.max_epochs=0') == 2
    assert not is_held(Path('w'))


@pytest.mark.parametrize('folder', ['w', None])
def test_a_test_holds_the_folder_that_it_was_given(
    config, checkpoint, is_held, monkeypatch, folder
):
    """Without one it is the training's, of which checkpoints may be tested while it goes on."""
    seen = []
    place = Path(folder or 'work_dirs/tiny')
    monkeypatch.setattr(
        ForwardTimer, 'before_test_epoch', look_first(seen, is_held, place, ForwardTimer)
    )
    options = ['--work-dir', folder] if folder else []
    assert run(cli.test, config, checkpoint, *options) == 0
    assert seen == [folder is not None] and not is_held(place)


def look_first(seen: list, is_held: Callable, place: Path, hook: type) -> Callable:
    """The hook's method, behind a look at the lock."""
    method = hook.before_test_epoch

    def call(self, runner) -> None:
        seen.append(is_held(place))
        method(self, runner)

    return call


def test_all_processes_end_and_one_speaks(config, holding, trainers):
    script = REPOSITORY / 'tools' / 'train.py'
    with holding(Path('w')):
        ended = trainers.run_ranks(script, config, '--work-dir', 'w', '--launcher', 'pytorch')
    assert [done.returncode for done in ended] == [2, 2]
    assert ''.join(done.stderr for done in ended) == f'error: {LINE}\n'


# Logs of starts that failed -------------------------------------------------------------------


def test_a_start_that_fails_leaves_no_folder_of_logs(config, checkpoint, capfd):
    for key in ('train_dataloader.dataset.data_prefix=none', 'model.backbone.depth=19'):
        assert run(cli.train, config, '--work-dir', 'w', '--cfg-options', key) == 2
        assert log_folders() == []
    missing = 'test_dataloader.dataset.data_prefix=none'
    assert run(cli.test, config, checkpoint, '--work-dir', 'w', '--cfg-options', missing) == 2
    assert log_folders() == []
    assert capfd.readouterr().err.count('error: ') == 3


def test_folders_of_runs_that_began_stay(config, capfd):
    assert run(cli.train, config, '--work-dir', 'w') == 0
    (first,) = log_folders()
    time.sleep(1.1)  # folders are named by the second
    missing = 'train_dataloader.dataset.data_prefix=none'
    assert run(cli.train, config, '--work-dir', 'w', '--cfg-options', missing) == 2
    assert log_folders() == [first]
    explodes = ('optim_wrapper.optimizer.lr=1e6', 'param_scheduler=None', 'train_cfg.max_epochs=9')
    assert run(cli.train, config, '--work-dir', 'w', '--cfg-options', *explodes) == 2
    assert 'became NaN or infinite' in capfd.readouterr().err
    assert len(log_folders()) == 2
