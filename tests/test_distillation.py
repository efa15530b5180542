"""Distillation: the losses, what the teacher sees, and what of it is in a training."""

import copy
import pickle
import re

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from students import (
    CLASSES,
    DEIT,
    DIGITS,
    FAMILIES,
    HEAD_OF_FIVE,
    PREPROCESSOR,
    ROOT,
    UNTRAINED,
    VIT,
    batch,
    build,
    randomised,
    raw_rgb,
)
from torch.distributed import HashStore
from trainer import forget_runs

import effvit_mm
from effvit_mm.openmm import cli
from effvit_mm.openmm.classifiers import DistilledClassifier, distillation_loss
from effvit_mm.openmm.classifiers.teacher import Conversion, Normalisation
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.weights.checkpoint import read_checkpoint

DISTILLED = ROOT / 'configs' / 'castling' / 'castling-deit-tiny_distilled_digits.py'


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


# --- the losses -------------------------------------------------------------------------------


def by_hand(student, teacher, mode, tau):
    """One image after the other, from the definitions."""
    total = 0.0
    for z_s, z_t in zip(student.double(), teacher.double(), strict=True):
        if mode == 'hard':
            total -= (z_s.exp() / z_s.exp().sum())[z_t.argmax()].log()
        else:
            p = (z_s / tau).exp() / (z_s / tau).exp().sum()
            q = (z_t / tau).exp() / (z_t / tau).exp().sum()
            total += tau**2 * (q * (q / p).log()).sum()
    return (total / len(student)).float()


@pytest.mark.parametrize(('mode', 'tau'), [('hard', 1.0), ('soft', 1.0), ('soft', 3.0)])
@pytest.mark.parametrize('mixed', [False, True], ids=['labels', 'mixup scores'])
@pytest.mark.parametrize('family', ['DeiT', "PSLT, mmpretrain's head", 'LeViT'])
def test_losses_are_the_formulas(mode, tau, mixed, family):
    chosen = {'mode': mode, 'weight': 0.3, 'temperature': tau}
    model = build(distillation=chosen, model=FAMILIES[family]).eval()  # no dropout, fixed norms
    model.init_weights()
    data = model.data_preprocessor(batch(mixed=mixed), training=True)
    feats = model.extract_feat(data['inputs'])
    if family == 'LeViT':
        pooled = feats[-1].mean((2, 3))
        label, follower = model.head.head(pooled), model.head.head_dist(pooled)
    else:
        label = follower = model.head(feats)
    if mixed:
        scores = torch.stack([sample.gt_score for sample in data['data_samples']])
    else:
        labels = torch.cat([sample.gt_label for sample in data['data_samples']])
        scores = F.one_hot(labels, CLASSES).float()
    expected = {
        'loss_label': 0.7 * -(scores * label.log_softmax(1)).sum(1).mean(),
        'loss_distillation': 0.3
        * by_hand(
            follower, model.teacher.model(model.teacher.conversion(data['inputs'])), mode, tau
        ),
    }
    losses = model.loss(**data)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(expected.values()))
    assert {'loss', *expected} <= set(logged)


def test_accuracy_and_label_smoothing_are_the_heads():
    smoothing = {'type': 'LabelSmoothLoss', 'label_smooth_val': 0.1, 'mode': 'original'}
    head = {**DEIT['head'], 'cal_acc': True, 'loss': smoothing}
    model = build(distillation={'weight': 0.0}, model={**DEIT, 'head': head}).eval()
    data = model.data_preprocessor(batch())
    plain = model.head.loss(model.extract_feat(data['inputs']), data['data_samples'])
    losses = model.loss(**data)
    torch.testing.assert_close(losses['loss_label'], plain['loss'])
    assert losses['loss_distillation'] == 0
    assert losses['accuracy_top-1'] == plain['accuracy_top-1']


def test_the_softer_the_answers_the_same_the_size_of_gradients():
    """What the square of the temperature is for."""
    logits = torch.randn(8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    teacher, sizes = logits.flip(0), []
    for tau in (20.0, 200.0):
        x = logits.clone().requires_grad_()
        distillation_loss(x, teacher, 'soft', tau).backward()
        sizes.append(float(x.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
    assert distillation_loss(teacher, teacher, 'soft', 3.0).abs() < 1e-6


@pytest.mark.parametrize('mode', ['hard', 'soft'])
@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_trains(family, mode):
    """One step with mixed images: all parameters learn, and the teacher stays as it was."""
    augments = {'augments': [{'type': 'Mixup', 'alpha': 0.8}]}
    preprocessor = {**PREPROCESSOR, 'num_classes': CLASSES}
    chosen = {'mode': mode, 'temperature': 2.0}
    model = build(UNTRAINED, chosen, FAMILIES[family], preprocessor, train_cfg=augments)
    model.init_weights()
    model.train()
    teacher = model.teacher.model
    assert not any(module.training for module in teacher.modules())
    before = copy.deepcopy(teacher.state_dict())
    np.random.seed(0)
    data = model.data_preprocessor(batch(size=64), training=True)
    total, _ = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(parameter.grad is None for parameter in teacher.parameters())
    model.zero_grad()

    wrapper = build_optim_wrapper(model, {'optimizer': {'type': 'SGD', 'lr': 0.1}})
    old = copy.deepcopy(model.state_dict())
    logged = model.train_step(batch(size=64), wrapper)
    assert {'loss', 'loss_label', 'loss_distillation'} <= set(logged)
    assert any(not torch.equal(value, old[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@torch.no_grad()
def test_mixed_precision():
    model = build(distillation={'mode': 'soft', 'temperature': 3.0}).eval()
    data = model.data_preprocessor(batch())
    exact = model.loss(**data)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(**data)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert float(loss) == pytest.approx(float(exact[name]), rel=0.05)


# --- what the teacher sees --------------------------------------------------------------------


class Recorder(torch.nn.Module):
    """A teacher that keeps what it is shown."""

    def forward(self, x):
        self.seen = x
        return x.new_zeros(len(x), CLASSES)


def seen_by(model):
    model.init_weights()
    model.teacher.model = recorder = Recorder()
    data = batch()
    prepared = model.data_preprocessor(copy.deepcopy(data), training=True)
    model.loss(**prepared)
    return recorder.seen, data, prepared['inputs']


@pytest.mark.parametrize('to_rgb', [True, False], ids=['RGB', 'BGR'])
def test_a_timm_teacher_sees_its_own_normalisation(to_rgb):
    seen, data, _ = seen_by(build(preprocessor={**PREPROCESSOR, 'to_rgb': to_rgb}))
    cfg = timm.data.resolve_model_data_config(timm.create_model('test_resnet'))
    mean, std = (torch.tensor(cfg[key]).view(-1, 1, 1) for key in ('mean', 'std'))
    torch.testing.assert_close(seen, (raw_rgb(data) / 255 - mean) / std, rtol=1e-5, atol=1e-5)


def test_a_teacher_of_a_config_sees_what_its_preprocessor_would_make():
    seen, data, _ = seen_by(build({'config': str(DIGITS), 'untrained': True, **HEAD_OF_FIVE}))
    torch.testing.assert_close(seen, (raw_rgb(data) - 77.8) / 95.9, rtol=1e-5, atol=1e-5)


def test_given_numbers_replace_the_teachers():
    given = {'mean': [10.0, 20.0, 30.0], 'std': [5.0], 'to_rgb': False}
    seen, data, _ = seen_by(build({**UNTRAINED, **given}))
    mean = torch.tensor(given['mean']).view(-1, 1, 1)
    expected = (raw_rgb(data).flip(1) - mean) / 5
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-5)


def test_a_student_without_normalisation():
    seen, data, _ = seen_by(build({**UNTRAINED, 'mean': [7.0], 'std': [2.0]}, preprocessor={}))
    torch.testing.assert_close(seen, (raw_rgb(data) - 7) / 2)


def test_the_same_normalisation_costs_nothing():
    imagenet = {'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375], 'to_rgb': True}
    own = Normalisation(tuple(255 * v for v in (0.485, 0.456, 0.406)),
                        tuple(255 * v for v in (0.229, 0.224, 0.225)), True)  # fmt: skip
    model = build(preprocessor=imagenet)
    x = torch.rand(1, 3, 8, 8)
    assert Conversion(Normalisation.of(model.data_preprocessor), own)(x) is x
    # A model of ours has no normalisation of its own: the student's, unless another is given.
    model = build({'model': 'deit_tiny', 'arch': VIT, 'img_size': 32, 'untrained': True})
    seen, _, inputs = seen_by(model)
    assert seen is inputs


@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
def test_images_are_resized_for_the_teacher(interpolation):
    given = {'mean': [120.0, 110.0, 100.0], 'std': [60.0, 55.0, 50.0]}
    teacher = {**UNTRAINED, **given, 'input_size': (24, 40), 'interpolation': interpolation}
    seen, _, inputs = seen_by(build(teacher))
    expected = F.interpolate(inputs, (24, 40), mode=interpolation, antialias=True)
    torch.testing.assert_close(seen, expected)
    seen, _, inputs = seen_by(build({**UNTRAINED, **given, 'input_size': 32}))
    assert seen is inputs


# --- what of the teacher is in a training -----------------------------------------------------


def test_the_teacher_is_no_part_of_the_student():
    model = build()
    plain = MODELS.build({'type': 'ImageClassifier', **copy.deepcopy(DEIT)})
    average = ExponentialMovingAverage(model)  # as a runner does, before the teacher is built
    random = torch.get_rng_state()
    model.init_weights()
    assert torch.equal(torch.get_rng_state(), random)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    assert not any(module is model.teacher.model for module in model.modules())
    assert average.module.teacher is copy.deepcopy(model).teacher is model.teacher
    wrapper = build_optim_wrapper(model, {'optimizer': {'type': 'SGD', 'lr': 0.1}})
    held = {id(p) for group in wrapper.param_groups for p in group['params']}
    assert held == {id(p) for p in model.parameters()}
    model.train()
    assert not model.teacher.model.training
    assert not any(p.requires_grad for p in model.teacher.model.parameters())


def test_ddp_has_the_student_alone():
    torch.distributed.init_process_group('gloo', store=HashStore(), rank=0, world_size=1)
    try:
        model = build(distillation={'mode': 'soft'}, model=FAMILIES['Castling-LeViT'])
        wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
        model.init_weights()
        wrapper = build_optim_wrapper(wrapped, {'optimizer': {'type': 'SGD', 'lr': 0.1}})
        for _ in range(2):  # the second step fails where a parameter got no gradient in the first
            logged = wrapped.train_step(batch(size=64), wrapper)
        assert logged['loss_distillation'].isfinite()
        assert len(list(wrapped.parameters())) == len(list(model.parameters()))
    finally:
        torch.distributed.destroy_process_group()


def test_a_pickled_student_leaves_the_teacher_behind():
    model = build().eval()
    data = model.data_preprocessor(batch())
    before = model.loss(**data)
    again = pickle.loads(pickle.dumps(model))
    assert again.teacher.model is None
    # Built anew at its first loss: an untrained teacher is the same in every process.
    for name, value in again.loss(**data).items():
        assert torch.equal(value, before[name])


@torch.no_grad()
def test_a_checkpoint_is_a_plain_classifiers(tmp_path):
    model = randomised(build())
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'a.pth')
    plain = MODELS.build({'type': 'ImageClassifier', **copy.deepcopy(DEIT)}).eval()
    plain.load_state_dict(torch.load(tmp_path / 'a.pth')['state_dict'])
    ours = effvit_mm.create_model(
        'deit_tiny', CLASSES, checkpoint=tmp_path / 'a.pth', arch=VIT, img_size=32
    )
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), plain(x))
    assert torch.equal(model(x), ours.eval()(x))
    assert model.teacher.model is None  # to predict, none is needed


# --- tools/train.py ---------------------------------------------------------------------------


def train(*arguments):
    forget_runs()
    return cli.train([str(argument) for argument in arguments])


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """Overrides that make the shipped config a training of seconds."""
    folder = tmp_path_factory.mktemp('digits')
    init_default_scope('mmpretrain')
    teacher = MODELS.build(load_config(str(DIGITS), ()).model)
    torch.save({'state_dict': teacher.state_dict()}, folder / 'teacher.pth')
    return [
        f'data_root={folder / "data"}',
        f'model.teacher.config={DIGITS}',
        f'model.teacher.checkpoint={folder / "teacher.pth"}',
        'data_checks.allow_empty_classes=True',
        *(f'{split}_dataloader.dataset.indices=32' for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.batch_size=16' for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.persistent_workers=False' for split in ('val', 'test')),
        'default_hooks.logger.interval=1',
    ]


def assert_same_weights(one, other):
    contents = [read_checkpoint(path) for path in (one, other)]
    for key in ('state_dict', 'ema_state_dict'):
        left, right = (content[key] for content in contents)
        assert left.keys() == right.keys()
        assert not any('teacher' in name for name in left)
        for name, value in left.items():
            assert torch.equal(value, right[name]), (key, name)


def test_the_shipped_config_trains_resumes_and_tests_without_its_teacher(
    digits, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / 'averaged.py'
    config.write_text(f"_base_ = {str(DISTILLED)!r}\ncustom_hooks = [dict(type='EMAHook')]\n")
    options = ('--cfg-options', *digits, 'train_cfg.max_epochs=2')
    assert train(config, '--work-dir', 'whole', '--seed', 1, *options) == 0
    out = capfd.readouterr().out
    assert re.search(r'loss: \S+ +loss_label: \S+ +loss_distillation: ', out), out
    assert re.search(r'teacher .*pslt-tiny_digits\.py: loaded (\d+) of \1 tensors', out), out
    assert train(config, '--work-dir', 'parts', '--resume', 'whole/epoch_1.pth', *options) == 0
    assert_same_weights('whole/epoch_2.pth', 'parts/epoch_2.pth')

    forget_runs()
    gone = ['model.teacher.config=gone.py', 'model.teacher.checkpoint=gone.pth']
    arguments = [config, 'whole/epoch_2.pth', '--work-dir', 'test', '--cfg-options', *digits]
    assert cli.test([*map(str, arguments), *gone]) == 0


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        ('model.teacher.checkpoint=gone.pth', r'model\.teacher .*checkpoint gone\.pth: no such'),
        ('model.distillation.mode=warm', r"model\.distillation\.mode='warm': 'hard' or 'soft'"),
        ('model.teacher.head.num_classes=7', r'tells apart 7 classes, the student .* 10'),
    ],
)
def test_train_says_in_one_line_what_is_wrong(
    digits, tmp_path, capfd, monkeypatch, override, message
):
    monkeypatch.chdir(tmp_path)
    options = [*digits, override]
    if 'num_classes' in override:
        options = [o for o in options if 'teacher.checkpoint' not in o]
        options += ['model.teacher.checkpoint=None', 'model.teacher.untrained=True']
    assert train(DISTILLED, '--work-dir', 'w', '--cfg-options', *options) == 2
    err = capfd.readouterr().err
    assert re.fullmatch(r'error: [^\n]+\n', err) and re.search(message, err), err
    assert not list(tmp_path.glob('w/epoch_*.pth'))


def test_it_is_registered():
    assert MODELS.get('effvit_mm.DistilledClassifier') is DistilledClassifier
