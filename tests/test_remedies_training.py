"""What messages of a config and of a training advise, done: the training runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_sets import make_coco
from coco_sets import write_config as write_detector
from mmcv.transforms import BaseTransform
from mmengine.evaluator import BaseMetric
from mmengine.fileio import FileClient, LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS, TRANSFORMS
from people import make_people, write_people_config
from remedies import said, tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.openmm import cli
from effvit_mm.openmm.engine import optim

ONE_EPOCH = 'train_cfg.update(max_epochs=1)\n'
Options = Sequence[str]


@METRICS.register_module(force=True)
class Spread(BaseMetric):
    """A figure whose name does not say whether more of it is better."""

    default_prefix = 'own'

    def process(self, data_batch, data_samples):
        self.results += [1.0] * len(data_samples)

    def compute_metrics(self, results):
        return {'spread': float(np.mean(results))}


@HOOKS.register_module(force=True)
class Greedy(Hook):
    """Asks for more memory than there is where a batch has more than four images."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if len(data_batch['inputs']) > 4:
            torch.empty(2**58)


@TRANSFORMS.register_module(force=True)
class Spoil(BaseTransform):
    """An image of which nothing can be learned."""

    def transform(self, results):
        image = results['img'].astype(np.float32)
        spoilt = results['img_path'].endswith('dots/0.png')
        return {**results, 'img': image * np.nan if spoilt else image}


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp('data'), train=3, val=2)


@pytest.fixture
def run(tmp_path, capfd, monkeypatch):
    """Train with these arguments; gives the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)

    def call(config: Path, *arguments: str, command=cli.train) -> tuple[int, str]:
        forget_runs()
        shutil.rmtree('w', ignore_errors=True)
        capfd.readouterr()
        code = command([str(config), '--work-dir', 'w', *arguments])
        out, err = capfd.readouterr()
        assert code in (0, 2) and (code == 0 or err.count('\n') == 1), err
        return code, out + err

    return call


def options(*items: str) -> list[str]:
    return ['--cfg-options', *items]


# Words of the message -> what provokes it, and what the message says instead, each alone.
OVERRIDES: dict[str, tuple[str, list[Options]]] = {
    '; set it to {} or less, or use --no-validate': (
        'train_cfg.val_begin=9',
        [options('train_cfg.val_begin=1'), [*options('train_cfg.val_begin=9'), '--no-validate']],
    ),
    ': give pairs of an {} and the val_interval from it on, whole numbers of at least 1, the {}s '
    'rising: [(10, 2), (20, 1)]': (
        'train_cfg.dynamic_intervals=[(2, 1), (1, 0)]',
        [options('train_cfg.dynamic_intervals=[(10, 2), (20, 1)]')],
    ),
    'give an index from 0 to {}': (
        'train_dataloader.dataset.pipeline.-1.type=PackInputs',
        [options('train_dataloader.dataset.pipeline.3.type=PackInputs')],
    ),
    '; give one, as optim_wrapper.optimizer.type=AdamW': (
        'optim_wrapper.optimizer._delete_=True',
        [options('optim_wrapper.optimizer._delete_=True', 'optim_wrapper.optimizer.type=AdamW')],
    ),
    '; give its keys one by one: KEY.NAME=VALUE': (
        'default_hooks.logger={interval: 1}',
        [options('default_hooks.logger.interval=1')],
    ),
    "; use 'effvit_mm.Runner'": (
        'runner_type=effvit_mm.Runer',
        [options('runner_type=effvit_mm.Runner')],
    ),
}


@tries(*OVERRIDES)
@pytest.mark.parametrize('words', OVERRIDES)
def test_an_override_that_is_refused(run, data, tmp_path, words):
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH)
    bad, instead = OVERRIDES[words]
    code, line = run(config, *options(bad))
    assert code == 2 and said(words, line), line
    for arguments in instead:
        code, line = run(config, *arguments)
        assert code == 0, line


@pytest.mark.parametrize('given', ['5', '[1, 2]', '[(0, 1)]', '[(1, x)]', '[(1, 2, 3)]', 'often'])
def test_other_intervals_that_change(run, data, tmp_path, given):
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH)
    code, line = run(config, *options(f'train_cfg.dynamic_intervals={given}'))
    assert code == 2 and line.startswith('error: train_cfg.dynamic_intervals='), line


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('train_dataloader.dataset.pipeline.9.x', "pipeline is a list of 4 and has no '9'"),
        ('train_dataloader.dataset.pipeline.last.x', "pipeline is a list of 4 and has no 'last'"),
        ('pipeline.-1.x', "pipeline is a list of 4 and has no '-1'"),
        ('model.backbone.depth.x', "model.backbone.depth is 18 and has no 'x'"),
    ],
)
def test_a_key_that_leads_nowhere(run, data, tmp_path, key, message):
    code, line = run(write_config(tmp_path / 'c.py', data, ONE_EPOCH), *options(f'{key}=1'))
    assert code == 2 and f'--cfg-options {key}: ' in line and message in line, line


# Words -> text of a config, what of it is at fault, and what is to stand there.
FILES: dict[str, tuple[str, str, str]] = {
    "is missing: dict(type='DefaultSampler', shuffle=...)": (
        "del train_dataloader['sampler']\n",
        "del train_dataloader['sampler']",
        "train_dataloader['sampler'] = dict(type='DefaultSampler', shuffle=True)",
    ),
    'enlarge them in the train_dataloader.dataset.pipeline': (
        "model.update(backbone=dict(type='AlexNet'))\nmodel['head'].update(in_channels=256)\n"
        "pipeline[2:3] = []\n",
        'pipeline[2:3] = []',
        "pipeline[2:3] = [dict(type='Resize', scale=64)]\ntest_pipeline[1:1] = pipeline[2:3]",
    ),
    '; set default_hooks.checkpoint.rule=greater or default_hooks.checkpoint.rule=less': (
        "val_evaluator = dict(type='Spread')\n"
        "default_hooks.update(checkpoint=dict(save_best='own/spread'))\n",
        "save_best='own/spread'",
        "save_best='own/spread', rule='less'",
    ),
    '; lower train_dataloader.batch_size': (
        "custom_hooks = [dict(type='Greedy')]\ntrain_dataloader.update(batch_size=8)\n",
        'batch_size=8)\n',
        'batch_size=4)\n',
    ),
}  # fmt: skip


@tries(*FILES)
@pytest.mark.parametrize('words', FILES)
def test_a_config_that_is_refused(run, data, tmp_path, words):
    extra, wrong, right = FILES[words]
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH + extra)
    code, line = run(config)
    assert code == 2 and said(words, line), line
    text = config.read_text()
    assert text.count(wrong) >= 1
    before, _, after = text.rpartition(wrong)
    config.write_text(before + right + after)
    code, line = run(config)
    assert code == 0, line


@pytest.mark.parametrize('name', ['reid/rank1', 'accuracy/rank1', 'bbox_mAP', 'own'])
def test_a_best_of_no_such_figure_says_which_there_are(run, data, tmp_path, name):
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH)
    code, line = run(config, *options(f'default_hooks.checkpoint.save_best={name}'))
    assert code == 2
    assert f"save_best='{name}': the evaluator gives no such metric; it gives" in line
    assert "it gives 'accuracy/top1'" in line
    assert run(config, *options('default_hooks.checkpoint.save_best=accuracy/top1'))[0] == 0


@tries('has no effect; use the flag --launcher')
def test_a_launcher_is_a_flag(run, data, tmp_path, monkeypatch):
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH)
    code, line = run(config, *options('launcher=pytorch'))
    assert code == 2 and said('has no effect; use the flag --launcher', line)
    process = {'RANK': 0, 'WORLD_SIZE': 1, 'LOCAL_RANK': 0, 'MASTER_ADDR': '127.0.0.1'}
    for name, value in {**process, 'MASTER_PORT': 29517}.items():
        monkeypatch.setenv(name, str(value))
    code, text = run(config, '--launcher', 'pytorch')
    assert code == 0, text
    assert "launcher = 'pytorch'" in Path('w/c.py').read_text()
    for name in (*process, 'MASTER_PORT'):
        monkeypatch.delenv(name)
    assert run(Path('w/c.py').rename('again.py'))[0] == 0  # what a run has written down still runs


@tries('(--help shows all arguments)')
def test_help_shows_what_there_is(run, data, tmp_path, capfd):
    config = write_config(tmp_path / 'c.py', data)
    code, line = run(config, '--sed', '1')
    assert code == 2 and '(--help shows all arguments)' in line
    with pytest.raises(SystemExit) as ended:
        cli.train(['--help'])
    assert ended.value.code == 0 and '--seed' in capfd.readouterr().out


# While it trains ----------------------------------------------------------------------------------


@tries('lower optim_wrapper.optimizer.lr, or set optim_wrapper.clip_grad=dict(max_norm=1.0)')
def test_a_training_that_explodes(run, data, tmp_path):
    extra = (
        ONE_EPOCH + 'param_scheduler = None\ncustom_hooks = []\n'
        "optim_wrapper = dict(optimizer=dict(type='SGD', lr={}))\n"
        "train_dataloader.update(batch_size=1)\nmodel['head'].update(loss=dict(\n"
        "    type='CrossEntropyLoss', loss_weight=1e6))\n"
    )
    config = write_config(tmp_path / 'c.py', data, extra.format('1e5'))
    code, line = run(config)
    words = 'lower optim_wrapper.optimizer.lr, or set optim_wrapper.clip_grad=dict(max_norm=1.0)'
    assert code == 2 and words in line, line
    clip = options('optim_wrapper.clip_grad.max_norm=1.0')
    for instead in (options('optim_wrapper.optimizer.lr=1e-9'), clip):
        code, line = run(config, *instead)
        assert code == 0, line


@tries('. Look at those images, {}')
def test_the_images_of_a_loss_that_is_not_finite(run, tmp_path):
    data = make_folder(tmp_path / 'data', train=3, val=2)
    extra = "pipeline[3:3] = [dict(type='Spoil')]\ntrain_dataloader.update(batch_size=2)\n"
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH + extra)
    code, line = run(config)
    assert code == 2 and said('. Look at those images, {}', line), line
    named = re.search(r'images of the batch: (.*?);', line)[1].split(', ')
    assert len(named) == 2 and str(data / 'train' / 'dots' / '0.png') in named
    (data / 'train' / 'dots' / '0.png').unlink()
    assert run(config)[0] == 0


@tries('timm.optim.Muon (pip install timm)')
def test_muon_by_timm(run, data, tmp_path):
    """``test_written_configs.py`` looks at what the message names."""
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH)
    code, line = run(config, *options('optim_wrapper.optimizer.type=Muon'))
    assert code == 2 and said('timm.optim.Muon (pip install timm)', line)
    assert run(config, *options('optim_wrapper.optimizer.type=timm.optim.Muon'))[0] == 0


@tries('; leave out --amp')
def test_a_processor_without_bfloat16(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(optim, 'has_bfloat16', lambda: False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH)
    code, text = run(config, '--amp')
    assert code == 0 and said('; leave out --amp', text)
    code, text = run(config)
    assert code == 0 and 'bfloat16' not in text


@tries(
    'to have param_scheduler[{}], lower its begin and the end of the schedule before it '
    '(--cfg-options param_scheduler.{}.begin=...)'
)
def test_a_schedule_that_begins_after_the_end(run, data, tmp_path):
    config = write_config(tmp_path / 'c.py', data)
    late = ('train_cfg.max_epochs=2', 'param_scheduler.0.end=2', 'param_scheduler.1.begin=2')
    code, text = run(config, *options(*late))
    assert code == 0 and 'param_scheduler[1] (CosineAnnealingLR) is left out' in text
    (log,) = Path('w').glob('*/*.log')
    assert said('(--cfg-options param_scheduler.{}.begin=...)', log.read_text())
    lowered = ('param_scheduler.1.begin=1', 'param_scheduler.0.end=1')
    code, text = run(config, *options(*late, *lowered))
    assert code == 0 and 'is left out' not in text


@tries('look for a crop that misses all boxes, or a filter that takes all of them')
def test_a_pipeline_that_leaves_nothing(run, tmp_path):
    make_coco(tmp_path / 'data')
    config = write_detector(tmp_path / 'c.py', tmp_path / 'data')
    text = config.read_text()
    wrong = "    dict(type='FilterAnnotations', min_gt_bbox_wh=(99, 99)),\n"
    config.write_text(
        text.replace("    dict(type='PackDetInputs'", f"{wrong}    dict(type='PackDetInputs'")
    )
    code, line = run(config)
    assert code == 2
    assert said('look for a crop that misses all boxes, or a filter that takes all', line), line
    config.write_text(text)
    assert run(config)[0] == 0


@tries('; copy the one to go on with and name it: --resume FILE')
def test_checkpoints_that_are_elsewhere(run, data, tmp_path):
    class Store(LocalBackend):
        """A remote store, which is a folder here."""

        def _format_path(self, filepath):
            return str(tmp_path / 'store' / str(filepath).removeprefix('store://'))

    for name in ('put', 'put_text', 'get', 'get_text', 'exists', 'isfile', 'isdir', 'remove'):
        plain = getattr(LocalBackend, name)
        at = -1 if name.startswith('put') else 0

        def there(self, *arguments, plain=plain, at=at, **named):
            paths = list(arguments)
            paths[at] = self._format_path(paths[at])
            return plain(self, *paths, **named)

        setattr(Store, name, there)
    for register in (register_backend, FileClient.register_backend):
        register('store', Store, prefixes='store', force=True)
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH)
    stored = options('default_hooks.checkpoint.out_dir=store://trained')
    assert run(config, *stored)[0] == 0
    code, line = run(config, '--resume', *stored)
    assert code == 2 and said('; copy the one to go on with and name it: --resume FILE', line)
    shutil.copy('store/trained/w/epoch_1.pth', 'epoch_1.pth')
    code, text = run(config, '--resume', 'epoch_1.pth', *stored, 'train_cfg.max_epochs=2')
    assert code == 0 and 'resumed epoch_1.pth: epoch 1 of 2' in text, text


@tries("test_evaluator: dict(type='effvit_mm.ReIDMetric') is needed")
def test_a_test_of_re_id_has_its_metric(run, tmp_path):
    config = write_people_config(tmp_path / 'p.py', make_people(tmp_path / 'data'), '')
    code, text = run(config, *options('train_cfg.max_epochs=1', 'train_cfg.val_interval=1'))
    assert code == 0, text
    shutil.copy('w/epoch_1.pth', 'people.pth')
    wrong = "test_evaluator = dict(type='Accuracy')\n"
    config.write_text(config.read_text() + wrong)
    code, line = run(config, 'people.pth', command=cli.test)
    assert code == 2 and "test_evaluator: dict(type='effvit_mm.ReIDMetric') is needed" in line
    right = wrong.replace('Accuracy', 'effvit_mm.ReIDMetric')
    config.write_text(config.read_text().replace(wrong, right))
    assert run(config, 'people.pth', command=cli.test)[0] == 0
