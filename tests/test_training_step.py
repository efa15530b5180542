"""What a first training step would end in is told before it, or at the latest by it, in a line."""

from __future__ import annotations

import re

import pytest
import torch
from coco_sets import make_config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from remedies import tries
from torch import nn
from torch.utils.data import DataLoader, Sampler
from trainer import forget_runs, make_folder, write_config

pytest.importorskip('mmdet')
from effvit_mm.errors import ConfigError
from effvit_mm.openmm import cli
from effvit_mm.openmm.engine import training_step
from effvit_mm.openmm.engine.training_step import failed_part, first_batch


@pytest.fixture
def train(tmp_path, monkeypatch, capfd):
    """Train with a config: gives the code, the last line, and whether an epoch was trained."""
    monkeypatch.chdir(tmp_path)

    def call(config) -> tuple[int, str, bool]:
        forget_runs()
        code = cli.train([str(config), '--work-dir', 'w'])
        out, err = capfd.readouterr()
        return code, [*err.splitlines(), ''][-2 if err else -1], 'Epoch(train)' in out

    return call


ASSIGNER = (
    "dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, "
    'ignore_iof_thr=-1)'
)
SETTINGS = f"assigner={ASSIGNER}, sampler=dict(type='PseudoSampler'), pos_weight=-1"
MANY = 'train_dataloader.update(batch_size=5)\n'
DETECTOR = {
    f"model['train_cfg'] = dict(_delete_=True, {SETTINGS})": (
        r'error: model\.train_cfg\.allowed_border is missing: the model reads it at the first image'
    ),
    "model['bbox_head'] = dict(bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[1] * 3))": (
        r'error: model\.bbox_head\.bbox_coder \(type DeltaXYWHBBoxCoder\): it fails at the first '
        r'image of train_dataloader: The size of tensor .*\.py:\d+\)$'
    ),
    "model['train_cfg'] = None": (
        r'error: model\.train_cfg=None: model\.bbox_head cannot be trained with it \(.*\.py:\d+\)'
    ),
}


@tries('; give what it asks for, as assigner and sampler')
@pytest.mark.parametrize('fault', DETECTOR)
def test_what_a_detector_lacks_is_told_before(train, tmp_path, fault):
    code, line, trained = train(make_config(tmp_path, MANY + fault + '\n'))
    assert code == 2 and re.search(DETECTOR[fault], line) and not trained, line
    if 'give what it asks for' in line:
        given = f'dict(_delete_=True, {SETTINGS}, allowed_border=-1)'
        extra = MANY + fault.replace('None', given) + '\n'
        assert train(make_config(tmp_path / 'given', extra))[0] == 0


@pytest.fixture
def config(tmp_path):
    """Three batches of eight."""
    extra = 'train_cfg.update(max_epochs=1)\nparam_scheduler = None\n'
    return write_config(tmp_path / 'c.py', make_folder(tmp_path / 'data', 8, 1), extra)


def losses(monkeypatch, broken) -> list[int]:
    """Let the loss raise where ``broken(call, images)``; gives the sizes of its batches."""
    from mmpretrain.models import StackedLinearClsHead  # behind effvit_mm, which has operators

    sizes: list[int] = []
    whole = StackedLinearClsHead.loss

    def loss(self, feats, data_samples, **kwargs):
        sizes.append(len(data_samples))
        if broken(len(sizes), sizes[-1]):
            raise KeyError('out of luck')
        return whole(self, feats, data_samples, **kwargs)

    monkeypatch.setattr(StackedLinearClsHead, 'loss', loss)
    return sizes


def test_three_images_are_tried(train, config, monkeypatch):
    sizes = losses(monkeypatch, lambda call, images: False)
    assert train(config)[0] == 0 and sizes == [3, 8, 8, 8]


def test_a_whole_batch_is_tried_where_three_images_are_too_few(train, config, monkeypatch):
    sizes = losses(monkeypatch, lambda call, images: images < 8)
    assert train(config)[0] == 0 and sizes == [3, 8, 8, 8, 8]
    sizes = losses(monkeypatch, lambda call, images: True)
    code, line, _ = train(config)
    assert code == 2 and sizes[:2] == [3, 8] and len(sizes) < 5
    assert re.search(r'model\.head \(type .*\): it fails .*: out of luck \(.*\.py:\d+\)$', line)


def test_a_first_iteration_that_fails_is_a_line(train, config, monkeypatch):
    monkeypatch.setattr(training_step, 'try_first_batch', lambda runner: None)
    sizes = losses(monkeypatch, lambda call, images: True)
    code, line, _ = train(config)
    assert code == 2 and sizes == [8]
    assert re.search(r'error: model\.head \(type .*\): .*: out of luck \(.*\.py:\d+\)$', line), line


def test_a_later_iteration_that_fails_is_a_traceback(train, config, monkeypatch):
    losses(monkeypatch, lambda call, images: call == 3)
    with pytest.raises(KeyError, match='out of luck'):
        train(config)


class Stateful(Sampler):
    """It draws on where it stopped."""

    def __init__(self, dataset) -> None:
        self.dataset, self.order = dataset, (n for n in range(len(dataset)))

    def __iter__(self):
        return self.order

    def __len__(self) -> int:
        return len(self.dataset)


@pytest.mark.parametrize(
    ('kind', 'found'), [(DefaultSampler, 4), (InfiniteSampler, 4), (Stateful, 0)]
)
def test_the_first_batch_is_looked_at_without_being_drawn(kind, found):
    data = list(range(10))
    loaders = [
        DataLoader(data, 4, sampler=kind(data, **({} if kind is Stateful else {'seed': 0})))
        for _ in range(2)
    ]
    batch = first_batch(loaders[0])
    assert len(batch) == found and set(batch) <= set(data)
    first, untouched = (next(iter(loader)) for loader in loaders)
    assert torch.equal(first, untouched)
    if kind is DefaultSampler:
        assert batch == first.tolist()


class Coder:
    """Kept by a head, and no module."""

    def encode(self, x):
        return x['key']


class Head(nn.Module):
    """It fails in what it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.coder = Coder()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        return self.coder.encode({}) if x is None else self.linear(x)


def test_the_innermost_part_is_named():
    model = nn.Sequential(nn.Identity(), Head())
    for given, path, kind in (
        (None, 'model.1.coder', Coder), (torch.zeros(3), 'model.1.linear', nn.Linear),
        ('text', 'model.1.linear', nn.Linear),
    ):  # fmt: skip
        with pytest.raises((KeyError, RuntimeError, TypeError)) as error:
            model(given)
        found, part = failed_part(error.value, model)
        assert found == path and type(part) is kind
    assert failed_part(ConfigError('x'), model) == ('model', model)
