"""Trainings of a small detector: several processes, killed and resumed."""

from __future__ import annotations

import json
import multiprocessing
import re
import signal
from pathlib import Path

import pytest
import torch
from coco_sets import make_config
from trainer import REPOSITORY, forget_runs

from effvit_mm.errors import DataError
from effvit_mm.utils.distributed import on_main_process
from effvit_mm.weights.checkpoint import read_checkpoint

pytest.importorskip('mmdet')
from effvit_mm.openmm import cli
from effvit_mm.openmm.config import kinds
from effvit_mm.openmm.engine.hooks import batch_files


def read_json(folder: Path) -> dict:
    """The metrics that a test leaves."""
    return json.loads(next(folder.glob('*/*.json')).read_text())


def test_two_processes_without_gpus(trainers, tmp_path, monkeypatch):
    """sync_bn is left out, and evaluation gives what one process gives, to the last bit."""
    monkeypatch.chdir(tmp_path)
    # The neck asks for SyncBatchNorm by itself.
    config = make_config(
        tmp_path, "sync_bn = 'torch'\nmodel.update(neck=dict(norm_cfg=dict(type='SyncBN')))\n"
    )

    def run(tool: str, *arguments: object) -> str:
        script = REPOSITORY / 'tools' / tool
        ended = trainers.run_ranks(script, config, *arguments, '--launcher', 'pytorch')
        assert [done.returncode for done in ended] == [0, 0], ended
        return ''.join(done.stdout for done in ended)

    out = run('train.py', '--work-dir', 'work')
    assert out.count("sync_bn='torch' is left out") == 1
    assert "sync_bn = 'torch'" in (tmp_path / 'work' / 'detector.py').read_text()
    checkpoint = tmp_path / 'work' / 'epoch_1.pth'
    assert read_checkpoint(checkpoint)['meta']['iter'] == 3
    run('test.py', checkpoint, '--work-dir', 'two', '--out', 'two.json')
    forget_runs()
    arguments = [str(config), str(checkpoint), '--work-dir', 'one', '--out', 'one.json']
    assert cli.test(arguments) == 0
    one, two = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('one', 'two'))
    assert len(one) == 5 and one == two
    assert sum(len(image['pred_instances']['scores']) for image in one) > 5
    metrics = read_json(tmp_path / 'one')
    assert metrics['coco/bbox_mAP_50'] > 0
    figures = {name: value for name, value in metrics.items() if name.startswith('coco/')}
    assert figures.items() <= read_json(tmp_path / 'two').items()


def check_in_a_group(rank: int, store: str, results) -> None:
    torch.distributed.init_process_group('gloo', f'file://{store}', rank=rank, world_size=2)

    def check():
        raise DataError(f'found by process {rank}')

    try:
        on_main_process(check)
    except DataError as error:
        results.put((rank, str(error)))


def test_all_processes_stop_with_what_the_main_one_found(tmp_path):
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    processes = [
        context.Process(target=check_in_a_group, args=(rank, str(tmp_path / 'store'), results))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert found == [(0, 'found by process 0'), (1, 'found by process 0')]


RESUMED = """
train_pipeline = [*_base_.pipeline[:2], dict(type='RandomFlip', prob=0.5), _base_.pipeline[2]]
train_dataloader.update(
    batch_size=2, num_workers={workers}, dataset=dict(pipeline=train_pipeline)
)
train_cfg = dict(max_epochs=2)
optim_wrapper = dict(optimizer=dict(lr=1e-4, momentum=0.9))
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""
# SIGKILL at the fifth of six iterations, the second of the second epoch.
TRAIN_AND_DIE = """
import os, signal
from effvit_mm.openmm import cli
from effvit_mm.openmm.engine.runner import Runner

step = Runner.call_hook

def call_hook(self, name, **kwargs):
    step(self, name, **kwargs)
    if name == 'before_train_iter' and self.iter == 4:
        os.kill(os.getpid(), signal.SIGKILL)

Runner.call_hook = call_hook
cli.train()
"""


@pytest.mark.parametrize('workers', [0, 1])
def test_killed_in_an_epoch_and_resumed_gives_the_same_weights(
    trainers, tmp_path, monkeypatch, workers
):
    monkeypatch.chdir(tmp_path)
    config = str(make_config(tmp_path, RESUMED.format(workers=workers)))

    def train(work: str, *arguments: str) -> None:
        forget_runs()
        assert cli.train([config, '--work-dir', work, *arguments]) == 0

    train('whole')
    killed = trainers.run('-c', TRAIN_AND_DIE, config, '--work-dir', 'killed')
    assert killed.returncode == -signal.SIGKILL
    assert sorted(p.name for p in Path('killed').glob('epoch_*.pth')) == ['epoch_1.pth']
    train('killed', '--resume')
    before = read_checkpoint('killed/epoch_1.pth')['state_dict']
    whole, resumed = (read_checkpoint(f'{work}/epoch_2.pth') for work in ('whole', 'killed'))
    for key in ('state_dict', 'ema_state_dict'):
        assert whole[key].keys() == resumed[key].keys()
        assert [n for n, v in whole[key].items() if not torch.equal(v, resumed[key][n])] == []
    assert any(not torch.equal(value, whole['state_dict'][n]) for n, value in before.items())
    histories = [c['message_hub']['runtime_info']['effvit_mm/history'] for c in (whole, resumed)]
    assert histories[0] == histories[1] and len(histories[0]) == 2


EXPLODING = """
train_dataloader.update(batch_size={batch}, sampler=dict(shuffle=False))
optim_wrapper = dict(optimizer=dict(lr={lr}), accumulative_counts={accumulate})
"""


def explodes(capfd, folder: Path, arguments: tuple[str, ...] = (), **values: float) -> str:
    """Train with a rate that cannot go well; give the one line of its error."""
    config = make_config(folder, EXPLODING.format(**values))
    forget_runs()
    assert cli.train([str(config), '--work-dir', 'w', *arguments]) == 2
    err = capfd.readouterr().err
    assert re.fullmatch(r'error: [^\n]+\n', err), err
    # Of a run that has none yet, so that it is not taken for one before.
    assert not list(Path('w').glob('*.pth')) and not Path('w/last_checkpoint').read_text()
    return err


@pytest.mark.parametrize(
    ('accumulate', 'arguments', 'iteration', 'files'),
    [
        (1, (), 2, ['2.png', '3.png']),
        (1, ('--amp',), 2, ['2.png', '3.png']),
        (2, (), 3, ['4.png']),  # the first step is that of the second batch
    ],
)
def test_a_loss_that_is_not_finite_names_the_files_of_its_batch(
    tmp_path, monkeypatch, capfd, accumulate, arguments, iteration, files
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kinds, 'LARGEST', ())
    err = explodes(capfd, tmp_path, arguments, batch=2, lr=1e30, accumulate=accumulate)
    found = re.search(
        r'became (nan|inf) in epoch 1, iteration (\d); images of the batch: (.*);', err
    )
    assert int(found[2]) == iteration
    assert [Path(name).name for name in found[3].split('; ')[0].split(', ')] == files
    assert 'last checkpoint: none yet' in err and 'clip_grad' in err


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch, capfd):
    """The loss of the epoch's only step was finite, the step was not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kinds, 'LARGEST', ())
    err = explodes(capfd, tmp_path, batch=5, lr=3e38, accumulate=1)
    assert re.search(r'epoch_1\.pth is not written: \d+ parameters became NaN or infinite', err)
    assert 'last checkpoint: none yet' in err


def test_few_files_of_a_large_batch_are_named():
    from mmengine.structures import BaseDataElement

    samples = [BaseDataElement(metainfo={'img_path': f'{i}.png'}) for i in range(64)]
    assert batch_files({'data_samples': samples}) == (
        '0.png, 1.png, 2.png, 3.png, 4.png and 59 more'
    )
