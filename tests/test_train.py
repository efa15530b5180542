"""tools/train.py as its users meet it: real processes, signals, two ranks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from forks import Fork
from trainer import REPOSITORY, make_folder, write_config

from effvit_mm.utils.drawn_files import LIST, note_drawn
from effvit_mm.weights.checkpoint import read_checkpoint

TRAIN = str(REPOSITORY / 'tools' / 'train.py')
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': ''}


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def config(tmp_path_factory, data) -> Path:
    # Many short epochs with workers: a kill finds the training in every one of its stages.
    return write_config(
        tmp_path_factory.mktemp('config') / 'killed.py',
        data,
        extra='train_cfg.update(max_epochs=6)\n'
        'train_dataloader.update(num_workers=1)\n'
        'default_hooks.update(checkpoint=dict(max_keep_ckpts=1))\n',
    )


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen:
    # Tests that a shell started in the background ignore Ctrl-C, and what they start inherits that.
    # Not by `preexec_fn`: of code between fork and exec other libraries' threads hear, as gRPC's.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, TRAIN, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=ENVIRONMENT,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def run(*arguments: str | Path, cwd: Path | None = None) -> tuple[str, str]:
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return out, err


@pytest.fixture(scope='module')
def undisturbed(config, tmp_path_factory) -> tuple[Path, str]:
    """A training that nobody interrupts, started outside of the repository."""
    folder = tmp_path_factory.mktemp('undisturbed')
    out, err = run(config, '--work-dir', 'work', cwd=folder)
    assert err == ''
    return folder / 'work', out


def wait_for(process: subprocess.Popen | Fork, condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def assert_same_training(one: Path, other: Path) -> None:
    left, right = (read_checkpoint(folder / 'epoch_6.pth') for folder in (one, other))
    for key in ('state_dict', 'ema_state_dict'):
        assert left[key].keys() == right[key].keys()
        for name, value in left[key].items():
            assert torch.equal(value, right[key][name]), (key, name)
    assert left['param_schedulers'] == right['param_schedulers']
    infos = [content['message_hub']['runtime_info'] for content in (left, right)]
    assert infos[0]['effvit_mm/history'] == infos[1]['effvit_mm/history']
    assert infos[0].get('best_score') == infos[1].get('best_score')


def test_console_is_quiet_and_files_are_complete(undisturbed):
    work, out = undisturbed
    assert len(out.splitlines()) < 40
    assert 'Warning' not in out and 'Config:' not in out and 'OneDL' not in out
    assert re.search(r'Epoch\(train\) \[6\]\[2/3\].*lr: .*eta: .*loss: ', out)
    assert 'training done' in out and 'best weights' in out and 'curves' in out
    log = next(work.glob('*/*.log')).read_text()
    assert 'System environment' in log and 'Config:' in log
    assert (work / 'curves.png').read_bytes().startswith(b'\x89PNG')
    assert sorted(p.name for p in work.glob('epoch_*.pth')) == ['epoch_6.pth']
    assert len(list(work.glob('best_*.pth'))) == 1


def test_killed_five_times_and_resumed_gives_the_same_weights(
    config, undisturbed, trainers, tmp_path
):
    for epoch, delay in ((1, 0.0), (2, 0.13), (3, 0.03), (4, 0.3), (5, 0.07)):
        process = trainers.start(TRAIN, config, '--work-dir', tmp_path, '--resume')
        # From the moment the checkpoint is in place: its validation, best checkpoint, next epoch.
        wait_for(
            process,
            lambda e=epoch: any(
                int(p.stem.split('_')[1]) >= e for p in tmp_path.glob('epoch_*.pth')
            ),
        )
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        for path in tmp_path.glob('*.pth'):
            read_checkpoint(path)
        assert list(tmp_path.glob('epoch_*.pth'))
    done = trainers.run(TRAIN, config, '--work-dir', tmp_path, '--resume')
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert re.search(r'resumed \S+epoch_\d\.pth: epoch \d of 6', out), out
    assert 'training done' in out
    assert_same_training(undisturbed[0], tmp_path)
    assert len(list(tmp_path.glob('best_*.pth'))) == 1
    assert not list(tmp_path.glob('.*.tmp'))
    assert (tmp_path / 'curves.png').exists()


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_one_line_and_no_traceback(config, trainers, tmp_path, number, code):
    if number == signal.SIGINT:
        process = start(config, '--work-dir', tmp_path)
    else:
        process = trainers.start(TRAIN, config, '--work-dir', tmp_path)
    wait_for(process, lambda: (tmp_path / 'epoch_2.pth').exists())
    os.kill(process.pid, number)
    _, err = process.communicate()
    assert process.returncode == code
    assert len(err.splitlines()) == 1, err
    assert re.search(r'epoch_\d\.pth; go on with: python \S+ .*--resume', err)


# A hook that tells what each process validates with.
WATCHER = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Watcher(Hook):
    def before_val_iter(self, runner, *args, **kwargs):
        state = getattr(runner.model, 'module', runner.model).state_dict()
        torch.save(state, f'{runner.work_dir}/validated_{runner.epoch}_{get_rank()}.pt')
"""


def test_two_processes_give_one_log_and_one_set_of_checkpoints(data, tmp_path):
    (tmp_path / 'watcher.py').write_text(WATCHER)
    extra = (
        'train_cfg.update(max_epochs=2)\n'
        "custom_hooks.append(dict(type='Watcher'))\n"
        "custom_imports = dict(imports=['effvit_mm', 'watcher'], allow_failed_imports=False)\n"
    )
    config = write_config(tmp_path / 'two.py', data, extra)
    environment = {**ENVIRONMENT, 'PYTHON': sys.executable, 'PYTHONPATH': str(tmp_path)}
    process = subprocess.run(
        ['bash', str(REPOSITORY / 'tools' / 'dist_train.sh'), str(config), '2',
         '--work-dir', str(tmp_path / 'work')],
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env=environment,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    work = tmp_path / 'work'
    assert process.stdout.count('training done') == 1
    assert '2 processes on cpu' in process.stdout
    assert len(list(work.glob('*/*.log'))) == 1
    assert sorted(p.name for p in work.glob('epoch_*.pth')) == ['epoch_1.pth', 'epoch_2.pth']
    # 24 images on 2 ranks in batches of 8: 2 iterations.
    assert read_checkpoint(work / 'epoch_2.pth')['meta']['iter'] == 4

    # Both validate one model, batch statistics included, though they have seen different images.
    for epoch in (1, 2):
        first, second = (torch.load(work / f'validated_{epoch}_{rank}.pt') for rank in (0, 1))
        assert any('running_mean' in key for key in first)
        assert all(torch.equal(first[key], second[key]) for key in first)

    checkpoint, shown = next(work.glob('best_*.pth')), tmp_path / 'shown'
    shown.mkdir()
    note_drawn(shown / '0_earlier.png').touch()
    process = subprocess.run(
        ['bash', str(REPOSITORY / 'tools' / 'dist_test.sh'), str(config), str(checkpoint), '2',
         '--out', str(tmp_path / 'out.json'), '--work-dir', str(tmp_path / 'test'),
         '--show-dir', str(shown)],
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env=environment,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count('model alone') == 1
    assert len(json.loads((tmp_path / 'out.json').read_text())) == 12
    drawn = sorted(json.loads(line) for line in (shown / LIST).read_text().splitlines())
    assert len(drawn) in (13, 14)  # with the confusion matrix, and mistakes where there are any
    assert drawn == sorted(path.name for path in shown.glob('*.png'))


def test_slurm_scripts_start_the_tools_under_srun(tmp_path):
    environment = {**ENVIRONMENT, 'SRUN': 'echo', 'GPUS': '16', 'LAUNCHER': 'pytorch'}
    for name, arguments, tool in (
        ('slurm_train.sh', ['part', 'job', 'c.py', '--amp'], 'train.py c.py'),
        ('slurm_test.sh', ['part', 'job', 'c.py', 'w.pth', '--tta'], 'test.py c.py w.pth'),
    ):
        script = str(REPOSITORY / 'tools' / name)
        done = subprocess.run(
            ['bash', script, *arguments], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert '--partition=part' in done.stdout and '--ntasks=16' in done.stdout
        assert f'{tool} --launcher pytorch {arguments[-1]}' in done.stdout
        done = subprocess.run(['bash', script], capture_output=True, text=True, env=environment)
        assert done.returncode == 2 and done.stderr.startswith('error: usage:')
