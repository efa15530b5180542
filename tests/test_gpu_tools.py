"""The tools on a device: training in mixed precision, testing, resuming, averages, checkpointing.

On the CPU with the tiny sets of the other tests, on CUDA with shipped configs and sample data.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import people
import pytest
import trainer
from coco_sets import make_config
from trainer import REPOSITORY, forget_runs

from effvit_mm.openmm import cli
from effvit_mm.sample_data import scenes, walkers
from effvit_mm.weights.checkpoint import read_checkpoint


class Run(NamedTuple):
    """A training of two epochs.

    Attributes:
        figure: Of its evaluation.
        cpu: Makes a config of a tiny set in a folder.
        cuda: A shipped config.
        options: ``KEY=VALUE`` for the latter.
    """

    figure: str
    cpu: Callable[[Path], Path]
    cuda: str
    options: tuple[str, ...]


def tiny_classifier(folder: Path) -> Path:
    return trainer.write_config(folder / 'tiny.py', trainer.make_folder(folder / 'data'))


def tiny_reid(folder: Path) -> Path:
    return people.write_people_config(folder / 'people.py', people.make_people(folder / 'data'))


SAVING = 'model.backbone.with_cp=True'
BF16 = 'optim_wrapper.dtype=bfloat16'
RUNS = {
    'classifier': Run('accuracy/top1', tiny_classifier, 'pslt/pslt-tiny_digits.py', (SAVING,)),
    'classifier, bf16': Run(
        'accuracy/top1', tiny_classifier, 'castling/castling-levit-128s_digits.py', (BF16,)
    ),
    'classifier, sampling': Run(
        'accuracy/top1', tiny_classifier, 'lightweight_vit/lightweight-vit-tiny_digits.py', ()
    ),
    'retinanet': Run(
        'coco/bbox_mAP', make_config, 'pslt/retinanet_pslt-tiny_digit-scenes.py', (SAVING,)
    ),
    'mask-rcnn': Run('coco/segm_mAP', make_config, 'pslt/mask-rcnn_pslt-tiny_digit-scenes.py', ()),
    're-ID': Run('reid/mAP', tiny_reid, 'pslt/reid_pslt-tiny_walkers.py', (SAVING,)),
    're-ID, CrossViT': Run(
        'reid/mAP', tiny_reid, 'crossvit/reid_crossvit-tiny_walkers.py', (BF16,)
    ),
}
ON_CPU = ('classifier', 'retinanet', 're-ID')
CASES = [
    *((name, 'cpu') for name in ON_CPU),
    *(pytest.param(name, 'cuda', marks=pytest.mark.gpu) for name in RUNS),
]
EMA = "custom_hooks = [dict(type='EMAHook', momentum=0.1)]"


@pytest.fixture(scope='module', autouse=True)
def small_samples(tmp_path_factory):
    """Sample data of few pictures, made where they are first asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, 'NUM_SCENES', {'train': 40, 'test': 12})
        patch.setattr(walkers, 'NUM_PEOPLE', {'train': 16, 'test': 8})
        root = tmp_path_factory.mktemp('samples')
        for name in ('DIGITS', 'DIGIT_SCENES', 'WALKERS'):
            patch.setenv(f'{name}_ROOT', str(root / name.lower()))
        yield


def config_of(name: str, device: str, folder: Path) -> Path:
    """On a tiny set, or on the shipped one; with an average."""
    run = RUNS[name]
    base = run.cpu(folder) if device == 'cpu' else REPOSITORY / 'configs' / run.cuda
    path = folder / 'averaged.py'
    path.write_text(f'_base_ = [{str(base)!r}]\n{EMA}\n')
    return path


def options_of(name: str, device: str, epochs: int) -> list[str]:
    """Of train.py."""
    shipped = RUNS[name].options if device == 'cuda' else ()
    length = f'train_cfg.max_epochs={epochs}', 'train_cfg.val_interval=1'
    return ['--amp', '--cfg-options', *length, *shipped]


def train(*args: object) -> None:
    forget_runs()
    assert cli.train([str(argument) for argument in args]) == 0


def figures_of(folder: Path) -> dict:
    """The metrics that a test leaves."""
    return json.loads(next(folder.glob('*/*.json')).read_text())


@pytest.mark.parametrize(('name', 'device'), CASES)
def test_a_training_its_test_and_going_on_with_it(name, device, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    figure = RUNS[name].figure
    config = config_of(name, device, tmp_path)
    train(config, '--seed', 0, '--work-dir', 'work', *options_of(name, device, 1))
    content = read_checkpoint('work/epoch_1.pth')
    assert content['ema_state_dict'] and content['meta']['epoch'] == 1
    half = device == 'cuda' and BF16 not in RUNS[name].options
    assert ('loss_scaler' in content['optimizer']) == (device == 'cuda')
    if half:
        assert content['optimizer']['loss_scaler']['scale'] >= 1

    capfd.readouterr()
    train(config, '--resume', '--work-dir', 'work', *options_of(name, device, 2))
    out = capfd.readouterr().out
    assert 'epoch_1.pth: epoch 1 of 2' in out and 'training done' in out
    assert ('cuda' in out) == (device == 'cuda'), out
    went_on = read_checkpoint('work/epoch_2.pth')
    assert went_on['meta']['iter'] == 2 * content['meta']['iter']
    history = went_on['message_hub']['runtime_info']['effvit_mm/history']
    validated = [entry['metrics'] for entry in history if 'metrics' in entry]
    assert len(validated) == 1 and 0 <= validated[0][figure] <= 100  # the second comes after it

    forget_runs()
    assert cli.test([str(config), 'work/epoch_2.pth', '--work-dir', 'tested']) == 0
    tested = figures_of(Path('tested'))
    assert 0 <= tested[figure] <= 100
    if device == 'cuda':  # the same weights without a GPU
        run_script('tools/test.py', config, 'work/epoch_2.pth', '--work-dir', 'on_cpu', visible='')
        assert figures_of(Path('on_cpu'))[figure] == pytest.approx(tested[figure], abs=1)


def run_script(script: str, *args: object, visible: str | None = None) -> str:
    """One of the tools in a process of its own; ``visible``: the GPUs that it sees."""
    program = ['bash'] if script.endswith('.sh') else [sys.executable]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable}
    if visible is not None:
        environment['CUDA_VISIBLE_DEVICES'] = visible
    done = subprocess.run(
        [*program, str(REPOSITORY / script), *map(str, args)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.gpu
@pytest.mark.parametrize('name', ['classifier', 'retinanet'])
def test_one_process_of_torchrun(name, tmp_path, monkeypatch):
    """DDP by nccl; by gloo it is tested with two processes."""
    monkeypatch.chdir(tmp_path)
    config, options = config_of(name, 'cuda', tmp_path), options_of(name, 'cuda', 1)
    train(config, '--work-dir', 'makes_the_data', *options)
    out = run_script('tools/dist_train.sh', config, 1, '--work-dir', 'work', *options)
    assert 'training done' in out and 'on cuda' in out
    assert read_checkpoint('work/epoch_1.pth')['meta']['epoch'] == 1
    run_script('tools/dist_test.sh', config, 'work/epoch_1.pth', 1, '--work-dir', 'tested')
    assert RUNS[name].figure in figures_of(Path('tested'))
