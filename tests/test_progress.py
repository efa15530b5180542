"""What a run says while it goes on, and what it leaves when it ends early."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from people import make_people, write_people_config
from remedies import tries
from trainer import forget_runs, make_folder, write_config

pytest.importorskip('mmpretrain')
from effvit_mm.openmm import cli
from effvit_mm.openmm.engine import hooks, logger_hook, testing
from effvit_mm.openmm.engine.report import format_table
from effvit_mm.openmm.engine.testing import ForwardTimer


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget_runs()
    return write_config(tmp_path / 'config.py', make_folder(tmp_path / 'data'))


def train(config, *options: str) -> int:
    return cli.train([str(config), '--work-dir', 'work', '--cfg-options', *options])


def lines(output: str, mode: str) -> list[str]:
    return re.findall(rf'Epoch\({mode}\) +(\[.*?\d\])  ', output)


LONG = 'default_hooks.logger.interval=50'


def test_the_first_step_and_every_epochs_end_have_a_line_with_the_time_left(config, capsys):
    assert train(config, LONG, 'train_cfg.max_epochs=2', 'param_scheduler=None') == 0
    out = capsys.readouterr().out
    assert lines(out, 'train') == ['[1][1/3]', '[1][3/3]', '[2][3/3]']
    assert 'eta: ' in next(line for line in out.splitlines() if '[1][1/3]' in line)


@tries('for {}, give --cfg-options train_dataloader.batch_size={}')
def test_a_training_says_how_long_it_is_and_what_makes_few_steps_more(config, capsys):
    few = 'images: 24, steps an epoch: 1, in all: 2: few for a training from scratch; for 6, '
    few += 'give --cfg-options train_dataloader.batch_size=8'
    chance = (
        '; until batch norms have averaged 150 steps or so, validations can be at chance while '
    )
    chance += 'the loss falls'
    options = 'train_cfg.max_epochs=2', 'param_scheduler=None'
    for batch, said in (
        ('24', few),
        ('32', few),
        ('8', 'images: 24, steps an epoch: 3, in all: 6'),
    ):
        forget_runs()
        assert train(config, f'train_dataloader.batch_size={batch}', *options) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line[10:] for line in lines if 'images: ' in line] == [said + chance]


@pytest.mark.parametrize(
    ('norm', 'steps', 'start', 'told'),
    [
        (torch.nn.BatchNorm2d, 149, None, True),
        (torch.nn.SyncBatchNorm, 24, None, True),
        (torch.nn.BatchNorm2d, 150, None, False),
        (torch.nn.BatchNorm2d, 24, 'epoch_3.pth', False),
        (torch.nn.LayerNorm, 24, None, False),
    ],
)
def test_where_batch_norms_lag_a_training_says_so(norm, steps, start, told):
    """After 24 steps their averages are far from what they normalise with in training."""
    loader = SimpleNamespace(dataset=range(8), batch_size=8, sampler=None)
    runner = SimpleNamespace(
        train_dataloader=loader, max_iters=steps, cfg={'load_from': start},
        model=torch.nn.Sequential(norm(4)), train_loop=SimpleNamespace(),
    )  # fmt: skip
    runner._train_loop = runner.train_loop
    assert ('validations can be at chance' in hooks.describe_length(runner)) is told


def test_no_silence_is_longer_than_a_minute(config, capsys, monkeypatch):
    monkeypatch.setattr(logger_hook, 'SILENCE', 0.0)
    assert train(config, LONG, 'train_cfg.max_epochs=1', 'param_scheduler=None') == 0
    out = capsys.readouterr().out
    assert lines(out, 'train') == ['[1][1/3]', '[1][2/3]', '[1][3/3]']
    assert [line for line in lines(out, 'val') if '][' in line] == [
        '[1][1/2]',
        '[1][2/2]',
        '[1][2/2]',
    ]
    curves = (next(Path('work').glob('*/vis_data')) / 'scalars.json').read_text()
    assert curves.count('"loss"') == 1  # of the epoch's end: by count alone


def test_a_locale_without_the_signs_ends_nothing(config, capfd, monkeypatch):
    """Tables are drawn with lines, folders and classes have names in all languages."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(printed, encoding='ascii'))
    monkeypatch.setattr(io, 'text_encoding', lambda encoding, level=2: encoding or 'ascii')
    command = [str(config), '--work-dir', 'größe']
    for more in (['--cfg-options', 'train_cfg.max_epochs=1'], ['--resume']):
        forget_runs()
        assert cli.train([*command, *more]) == 0
    assert capfd.readouterr().err == ''
    said = printed.getvalue().decode('ascii')
    assert 'training in gr??e' in said and 'epoch 1 of 3' in said and 'training done' in said
    log = max(Path('größe').glob('*/*.log')).read_text(encoding='utf-8')
    assert 'größe' in log and '│' in log


def test_a_schedule_that_never_begins_is_left_out_with_a_line(config, capsys):
    assert train(config, 'train_cfg.max_epochs=1', 'param_scheduler.1.end=9') == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if 'param_scheduler' in line)
    assert line.partition('warning: ')[2] == (
        'param_scheduler[1] (CosineAnnealingLR) is left out: it begins after 1 epochs, the '
        'training ends after 1; more in the log'
    )
    assert 'lower its begin' in next(Path('work').glob('*/*.log')).read_text()
    forget_runs()
    fitting = ['param_scheduler.1.begin=0', 'param_scheduler.0.end=1']
    assert train(config, 'train_cfg.max_epochs=1', *fitting) == 0
    assert 'is left out' not in capsys.readouterr().out


def test_a_class_that_validation_lacks_is_named_once_with_what_follows(config, capsys):
    shutil.rmtree('data/val/rings')
    assert train(config, 'train_cfg.max_epochs=1', 'param_scheduler=None') == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if 'rings' in line)
    assert line.partition('warning: ')[2] == (
        f"{Path('data/val').absolute()}: no images of the class 'rings': "
        'without figures in the evaluation'
    )


# Results of a test that ends early ----------------------------------------------------------------


def interrupt(monkeypatch, at: int) -> None:
    before = ForwardTimer.before_test_iter

    def stop(self, runner, batch_idx, data_batch=None) -> None:
        if batch_idx == at:
            raise KeyboardInterrupt
        before(self, runner, batch_idx)

    monkeypatch.setattr(ForwardTimer, 'before_test_iter', stop)


def test_predictions_are_kept(config, monkeypatch, capsys):
    assert train(config, 'train_cfg.max_epochs=1', 'param_scheduler=None') == 0
    arguments = [str(config), 'work/epoch_1.pth', '--work-dir', 'test', '--out', 'found.json']
    forget_runs()
    assert cli.test(arguments) == 0
    whole = json.loads(Path('found.json').read_text())
    Path('found.json').unlink()
    forget_runs()
    with monkeypatch.context() as patch:
        interrupt(patch, at=1)
        assert cli.test(arguments) == 130
    assert 'what it had up to there is in found_partial.json' in capsys.readouterr().out
    assert json.loads(Path('found_partial.json').read_text()) == whole[:8]
    assert not Path('found.json').exists()


def test_all_predictions_are_there_where_the_figures_fail(config, monkeypatch):
    from mmpretrain.evaluation import Accuracy

    assert train(config, 'train_cfg.max_epochs=1', 'param_scheduler=None') == 0
    forget_runs()

    def fail(self, results):
        raise RuntimeError('no figures')

    monkeypatch.setattr(Accuracy, 'compute_metrics', fail)
    arguments = [str(config), 'work/epoch_1.pth', '--work-dir', 'test', '--out', 'found.json']
    with pytest.raises(RuntimeError, match='no figures'):
        cli.test(arguments)
    assert len(json.loads(Path('found.json').read_text())) == 12


def test_features_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    forget_runs()
    config = write_people_config(tmp_path / 'people.py', make_people(tmp_path / 'data'))
    assert train(config, 'train_cfg.max_epochs=1') == 0
    arguments = [str(config), 'work/epoch_1.pth', '--work-dir', 'test', '--out', 'f.npz']
    forget_runs()
    assert cli.test(arguments) == 0
    forget_runs()
    interrupt(monkeypatch, at=1)
    assert cli.test(arguments) == 130
    assert 'in f_partial_query.npz, f_partial_gallery.npz' in capsys.readouterr().out
    counts = {}
    for name in ('f_query', 'f_gallery', 'f_partial_query', 'f_partial_gallery'):
        with np.load(f'{name}.npz') as file:
            counts[name] = len(file['features'])
    assert counts['f_partial_query'] + counts['f_partial_gallery'] == 8
    assert counts['f_query'] + counts['f_gallery'] == 16


@pytest.mark.parametrize('main', [True, False])
def test_the_main_process_alone_writes_the_figures_of_a_test(config, monkeypatch, main):
    assert train(config, 'train_cfg.max_epochs=1', 'param_scheduler=None') == 0
    forget_runs()
    monkeypatch.setattr(logger_hook, 'is_main_process', lambda: main)
    monkeypatch.setattr(testing, 'has_single_labels', lambda *_: False)  # it adds to the file
    assert cli.test([str(config), 'work/epoch_1.pth', '--work-dir', 'test']) == 0
    written = list(Path('test').glob('*/*.json'))
    assert len(written) == main
    for path in written:
        assert json.loads(path.read_text())['accuracy/top1'] >= 0
        assert not list(path.parent.glob('.*'))


def test_each_evaluation_gives_back_what_it_freed(config, monkeypatch):
    calls = []
    monkeypatch.setattr(hooks, 'release_freed_memory', lambda: calls.append(1))
    assert train(config, 'train_cfg.max_epochs=2') == 0
    assert len(calls) == 2
    forget_runs()
    assert cli.test([str(config), 'work/epoch_2.pth', '--work-dir', 't']) == 0
    assert len(calls) == 3


def test_a_table_is_as_wide_as_its_title():
    title = 'test of work_dirs/' + 70 * 'x' + '/epoch_20.pth'
    table = format_table(title, [('images', '7')])
    assert table.splitlines()[1].strip() == title
    assert len({len(line) for line in table.splitlines()[2:]}) == 1
