"""What a first training step would end in is told before it, or at the latest by it, in a line."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from coco_sets import make_config
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import IterTimerHook
from remedies import tries
from torch import nn
from torch.utils.data import DataLoader, Sampler
from trainer import forget_runs, make_folder, write_config

pytest.importorskip('mmdet')
from effvit_mm.errors import ConfigError, UserError
from effvit_mm.openmm import cli
from effvit_mm.openmm.engine import training_step
from effvit_mm.openmm.engine.training_step import failed_part, first_batch, place_in


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
    "model['train_cfg'] = dict(assigner=dict(neg_iou_thr=(0.1, 'x')))": (
        r'error: model\.train_cfg\.assigner \(type MaxIoUAssigner\): it fails at the first image '
    ),
    "model['data_preprocessor'] = None": (
        r'error: model\.data_preprocessor is missing: without one the model gets the images as a '
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


def losses(monkeypatch, broken, kind: type[Exception] = KeyError) -> list[int]:
    """Let the loss raise where ``broken(call, images)``; gives the sizes of its batches."""
    from mmpretrain.models import StackedLinearClsHead  # behind effvit_mm, which has operators

    sizes: list[int] = []
    whole = StackedLinearClsHead.loss

    def loss(self, feats, data_samples, **kwargs):
        sizes.append(len(data_samples))
        if broken(len(sizes), sizes[-1]):
            raise kind('out of luck')
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


@pytest.mark.parametrize('kind', [KeyError, UnboundLocalError, ZeroDivisionError])
def test_a_first_iteration_that_fails_is_a_line(train, config, monkeypatch, kind):
    monkeypatch.setattr(training_step, 'try_first_batch', lambda runner: None)
    sizes = losses(monkeypatch, lambda call, images: True, kind)
    code, line, _ = train(config)
    assert code == 2 and sizes == [8]
    assert re.search(r'error: model\.head \(type .*\): .*: out of luck \(.*\.py:\d+\)$', line), line


def test_a_later_iteration_that_fails_is_a_line_that_says_when(train, config, monkeypatch):
    losses(monkeypatch, lambda call, images: call == 3)  # the first is the trial's
    code, line, _ = train(config)
    assert code == 2
    assert re.search(
        r'error: model\.head \(type .*\): it fails in epoch 1, iteration 2: out of luck '
        r'\(.*\.py:\d+\)$',
        line,
    ), line
    losses(monkeypatch, lambda call, images: call == 3)
    forget_runs()
    with pytest.raises(ConfigError) as error:  # with all that led to it
        cli.train([str(config), '--work-dir', 'w', '--debug'])
    assert isinstance(error.value.__cause__, KeyError)


def test_gradients_of_a_later_iteration_that_fail_are_a_line(train, config, monkeypatch):
    calls: list[int] = []
    whole = torch.Tensor.backward

    def backward(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError('no gradient of this')
        whole(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, 'backward', backward)
    code, line, _ = train(config)
    assert code == 2 and re.search(
        r'error: model: it fails in epoch 1, iteration 3: no gradient of this \(.*\.py:\d+\)$', line
    ), line


def test_a_hook_of_ones_own_that_fails_keeps_its_traceback(train, config, monkeypatch):
    def broken(self, *args, **kwargs):
        raise KeyError('my mistake')

    monkeypatch.setattr(IterTimerHook, '_after_iter', broken)
    with pytest.raises(KeyError, match='my mistake'):
        train(config)


@tries('look at them, at the settings of this loss, and at mean and std of the data_preprocessor')
def test_a_first_loss_that_is_not_finite(train, config):
    text = config.read_text()
    config.write_text(text.replace('std=[60.0] * 3', 'std=[1e-44] * 3'))
    code, line, trained = train(config)
    assert code == 2 and not trained
    assert re.search(
        r"error: the model's loss is nan for the first images of \w+ \(\S+\.png, .*\); "
        'look at them, at the settings of this loss, and at mean and std of the data_preprocessor$',
        line,
    ), line
    config.write_text(text)
    assert train(config)[0] == 0


def test_a_loss_of_few_images_or_in_float16_may_be_infinite():
    value = {'loss': torch.tensor(float('inf')), 'accuracy': torch.tensor(float('nan'))}
    half = SimpleNamespace(optim_wrapper=SimpleNamespace(loss_scaler=object()))
    training_step._check_finite(half, value, {})
    plain = SimpleNamespace(optim_wrapper=SimpleNamespace())
    with pytest.raises(UserError, match=r"the model's loss is inf "):
        training_step._check_finite(plain, value, {})
    training_step._check_finite(plain, {**value, 'loss': [torch.ones(2)]}, {})


@pytest.mark.parametrize('norm', ['BN1d', 'LN'])
def test_a_last_batch_of_one_is_tried_without_a_loss_among_processes(
    train, config, monkeypatch, norm
):
    """A loss may gather from all processes, and this one is alone in its trial."""
    extra = (
        "model['head'].update(norm_cfg=dict(type=NORM))\ntrain_dataloader.update(batch_size=23)\n"
    )
    config.write_text(config.read_text() + extra.replace('NORM', repr(norm)))
    monkeypatch.setattr(training_step, 'get_world_size', lambda: 2)
    sizes = losses(monkeypatch, lambda call, images: False)
    code, line, _ = train(config)
    if norm == 'BN1d':
        assert code == 2 and not sizes
        assert re.search(r'one image .*the batch norm head\.layers\.0\.norm of the model', line), (
            line
        )
    else:
        assert code == 0 and sizes == [23, 1]


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


def test_where_the_settings_of_one_of_two_stages_are():
    from mmdet.models.task_modules import PseudoSampler, RandomSampler

    sampler = {'type': 'RandomSampler', 'num': 8, 'pos_fraction': 0.5}
    stages = {'rpn': {'sampler': sampler}, 'rcnn': {'sampler': dict(sampler)}}
    cfg = Config({'model': {'type': 'MaskRCNN', 'train_cfg': stages}})
    made = RandomSampler(8, 0.5)
    for head, stage in (('rpn_head', 'rpn'), ('roi_head.bbox_head', 'rcnn')):
        place = place_in(cfg, f'model.{head}.sampler', made)
        assert place == f'model.train_cfg.{stage}.sampler'
    assert place_in(cfg, 'model.bbox_head.sampler', made) == 'model.bbox_head.sampler'
    assert place_in(cfg, 'model.rpn_head.sampler', PseudoSampler()) == 'model.rpn_head.sampler'
