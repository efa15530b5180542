"""Flags of ``tools/train.py`` that add a hook or a place to log to."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from remedies import tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.openmm import cli
from effvit_mm.openmm.config import extras
from effvit_mm.openmm.config.preparing import prepare_training

STILL = (
    'optim_wrapper.optimizer.lr=1e-30',
    'model.backbone.norm_eval=True',
    'custom_hooks=[]',
    'train_cfg.max_epochs=6',
)
METRIC = """
val_evaluator = dict(type='SingleLabelMetric', items=('precision',))
test_evaluator = val_evaluator
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('data'))


@pytest.fixture
def config(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path / 'tiny.py', data)


def train(config, *flags, options=('train_cfg.max_epochs=1',)):
    code = cli.train([str(config), '--work-dir', 'w', *flags, '--cfg-options', *options])
    forget_runs()
    return code


def epochs():
    return sorted(int(path.stem.removeprefix('epoch_')) for path in Path('w').glob('epoch_*.pth'))


def test_a_training_that_gets_no_better_ends_early(config):
    """Nothing is learned, so the second and the third validation are as the first."""
    still = ('param_scheduler=[]', *STILL)
    assert train(config, '--early-stopping', '2', options=still) == 0
    assert max(epochs()) == 3


@tries('is not known: add --cfg-options default_hooks.checkpoint.save_best=NAME')
def test_what_early_stopping_goes_by(config, data, capsys):
    def hook(config, *options):
        words = [str(config), '--early-stopping', '4', '--cfg-options', 'train_cfg.max_epochs=1']
        cfg = prepare_training(cli.train_parser().parse_args([*words, *options]))
        (one,) = (one for one in cfg.custom_hooks if one['type'] == 'EarlyStoppingHook')
        return one

    assert hook(config)['monitor'] == 'accuracy/top1' and hook(config)['patience'] == 4
    named = 'default_hooks.checkpoint.save_best=accuracy/top5'
    assert hook(config, named)['monitor'] == 'accuracy/top5'
    other = write_config(config.with_name('other.py'), data, METRIC)
    assert train(other, '--early-stopping', '2') == 2
    error = capsys.readouterr().err
    assert 'add --cfg-options default_hooks.checkpoint.save_best=NAME' in error
    best = 'default_hooks.checkpoint.save_best=single-label/precision'
    assert hook(other, best)['monitor'] == 'single-label/precision'
    for flags, message in (
        (('--early-stopping', '0'), '--early-stopping 0: 1 or more is needed'),
        (('--early-stopping', '2', '--no-validate'), 'the training has no validation'),
    ):
        assert train(config, *flags) == 2
        assert message in capsys.readouterr().err


def test_tensorboard_gets_the_losses(config):
    reader = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    assert train(config, '--tensorboard') == 0
    (file,) = Path('w').rglob('events.out.tfevents.*')
    events = reader.EventAccumulator(str(file.parent))
    events.Reload()
    scalars = events.Tags()['scalars']
    assert any('loss' in name for name in scalars) and 'accuracy/top1' in scalars
    assert list(Path('w').rglob('scalars.json'))  # our own curves are drawn of it


@tries('--{} needs the package {}: `pip install {}`')
def test_weights_and_biases_gets_the_losses_where_it_is_installed(config, capsys, monkeypatch):
    monkeypatch.setattr(extras, 'find_spec', lambda name: None)
    assert train(config, '--wandb') == 2
    error = capsys.readouterr().err
    assert error == 'error: --wandb needs the package wandb: `pip install wandb`\n'
    monkeypatch.undo()
    monkeypatch.chdir(config.parent)
    logged = []
    package = types.ModuleType('wandb')  # the boundary to what is elsewhere
    package.__spec__ = ModuleSpec('wandb', None)
    package.init = lambda **_: None
    package.log = lambda values, **_: logged.append(values)
    package.config = types.SimpleNamespace(update=lambda *_, **__: None)
    package.join = lambda: None
    package.run = types.SimpleNamespace(log_code=lambda **_: None)
    monkeypatch.setitem(sys.modules, 'wandb', package)
    assert train(config, '--wandb') == 0
    names = {name for values in logged for name in values}
    assert any('loss' in name for name in names) and 'accuracy/top1' in names
