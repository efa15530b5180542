"""The ways to name a teacher, and those that are refused."""

import copy
import io
import re
import sys

import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from mmpretrain import get_model
from mmpretrain.registry import MODELS
from safetensors.torch import save_file
from students import CLASSES, DEIT, DIGITS, FAMILIES, LEVIT, POOL, UNTRAINED, build, randomised

import effvit_mm
from effvit_mm.errors import CheckpointError, ConfigError
from effvit_mm.openmm.config.loading import load_config


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


# --- the ways to name a teacher ---------------------------------------------------------------

SMALL = {
    'backbone': {'depth': 18, 'base_channels': 8, 'stem_channels': 8},
    'head': {'in_channels': 64, 'num_classes': CLASSES},
}


def assert_teacher_is(model, theirs):
    """The teacher holds their weights, and gives their answers to the raw images."""
    model.init_weights()
    assert model.teacher.model is not theirs
    for name, value in model.teacher.model.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs(model.teacher.conversion(x))
    torch.testing.assert_close(model.teacher(x), expected)


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_a_teacher_of_timm(tmp_path, suffix):
    theirs = randomised(timm.create_model('test_resnet', num_classes=CLASSES))
    path = tmp_path / f'weights.{suffix}'
    (save_file if suffix == 'safetensors' else torch.save)(theirs.state_dict(), path)
    assert_teacher_is(build({'timm': 'test_resnet', 'checkpoint': str(path)}), theirs)


def test_a_teacher_of_timm_with_arguments(tmp_path):
    arguments = {'img_size': 32, 'depth': 2}
    theirs = randomised(timm.create_model('test_vit', num_classes=CLASSES, **arguments))
    torch.save({'model': theirs.state_dict()}, tmp_path / 'a.pth')
    teacher = {'timm': 'test_vit', 'checkpoint': str(tmp_path / 'a.pth'), **arguments}
    assert_teacher_is(build(teacher), theirs)


def test_published_weights_of_timm_keep_their_classes(monkeypatch):
    """timm would silently give them an untrained layer of another size."""
    asked = []
    create = timm.create_model

    def offline(name, pretrained=False, **kwargs):
        asked.append((pretrained, kwargs))
        return create(name, **kwargs)

    monkeypatch.setattr(timm, 'create_model', offline)
    teacher = {'timm': 'test_resnet', 'pretrained': True}
    with pytest.raises(ConfigError, match=r'test_resnet.* 1000 classes, the student .* 5'):
        build(teacher).init_weights()
    assert asked == [(True, {})]
    with pytest.raises(ConfigError, match='num_classes=5, but the published weights are of 1000'):
        build({**teacher, 'num_classes': CLASSES}).init_weights()
    head = {**DEIT['head'], 'num_classes': 1000}
    build(teacher, model={**DEIT, 'head': head}).init_weights()


def test_a_teacher_of_mmpretrain(tmp_path):
    theirs = randomised(get_model('resnet18_8xb32_in1k', pretrained=False, **copy.deepcopy(SMALL)))
    torch.save({'state_dict': theirs.state_dict(), 'meta': {}}, tmp_path / 'a.pth')
    teacher = {'mmpretrain': 'resnet18_8xb32_in1k', 'checkpoint': str(tmp_path / 'a.pth')}
    assert_teacher_is(build({**teacher, **copy.deepcopy(SMALL)}), theirs)


def test_published_weights_of_mmpretrain_are_read_safely(monkeypatch, tmp_path):
    """The address is mmpretrain's, the reading ours."""
    theirs = randomised(get_model('resnet18_8xb32_in1k', pretrained=False, **copy.deepcopy(SMALL)))
    asked, content = [], {'state_dict': theirs.state_dict()}

    class Response(io.BytesIO):
        headers = {}

    def answer(request, timeout):
        asked.append(request.full_url)
        torch.save(content, tmp_path / 'a.pth')
        return Response((tmp_path / 'a.pth').read_bytes())

    monkeypatch.setattr('urllib.request.urlopen', answer)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    teacher = {'mmpretrain': 'resnet18_8xb32_in1k', 'pretrained': True, **copy.deepcopy(SMALL)}
    assert_teacher_is(build(teacher), theirs)
    (address,) = asked
    assert address.startswith('https://') and address.endswith('.pth')
    content['args'] = re.compile('x')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'other'))
    with pytest.raises(CheckpointError, match='could run code'):
        build(teacher).init_weights()


def test_a_teacher_of_a_config(tmp_path):
    config = load_config(str(DIGITS), ())
    theirs = MODELS.build({**config.model, 'data_preprocessor': config.data_preprocessor}).eval()
    torch.save({'state_dict': theirs.state_dict(), 'meta': {'epoch': 20}}, tmp_path / 'a.pth')
    head = {**DEIT['head'], 'num_classes': 10}
    teacher = {'config': str(DIGITS), 'checkpoint': str(tmp_path / 'a.pth')}
    assert_teacher_is(build(teacher, model={**DEIT, 'head': head}), theirs)


def test_a_teacher_of_ours_by_name(tmp_path):
    theirs = randomised(effvit_mm.create_model('levit_128s', num_classes=CLASSES, arch=LEVIT))
    torch.save(theirs.state_dict(), tmp_path / 'a.pth')
    teacher = {'model': 'levit_128s', 'arch': LEVIT, 'checkpoint': str(tmp_path / 'a.pth')}
    assert_teacher_is(build(teacher), theirs)


def test_counters_that_old_checkpoints_lack_are_not_missed(tmp_path):
    theirs = randomised(timm.create_model('test_resnet', num_classes=CLASSES))
    state = {k: v for k, v in theirs.state_dict().items() if 'num_batches_tracked' not in k}
    torch.save(state, tmp_path / 'a.pth')
    assert_teacher_is(build({'timm': 'test_resnet', 'checkpoint': str(tmp_path / 'a.pth')}), theirs)


# --- what is refused --------------------------------------------------------------------------

AT_ONCE = {
    'no kind': ({'checkpoint': 'a.pth'}, r'none of the keys config, timm, mmpretrain, model'),
    'two kinds': (
        {**UNTRAINED, 'model': 'pslt_tiny'},
        r'timm and model of the keys .*exactly one of them',
    ),
    'no dict': ('regnety_160', r"model\.teacher='regnety_160': a dict is needed"),
    'no weights': ({'timm': 'test_resnet'}, r"timm='test_resnet'.*no weights.*checkpoint=file"),
    'weights twice': (
        {**UNTRAINED, 'checkpoint': 'a.pth'},
        r'checkpoint and untrained: exactly one is needed',
    ),
    'nothing published': (
        {'config': 'a.py', 'pretrained': True},
        r"pretrained=True: nothing is published for config='a\.py'",
    ),
    'misspelt': (
        {'timm': 'test_resnet', 'chekpoint': 'a.pth'},
        r"chekpoint='a\.pth': no such key; did you mean 'checkpoint'",
    ),
    'unknown': (
        {'config': 'a.py', 'untrained': True, 'depth': 3},
        r'model\.teacher\.depth=3: no such key beside config; there are backbone, ',
    ),
    'no such model of ours': (
        {'model': 'pslt_tinny', 'untrained': True},
        r"model\.teacher\.model='pslt_tinny'.*did you mean 'pslt_tiny'",
    ),
    'mean alone': ({**UNTRAINED, 'mean': [1.0]}, r'mean and std come together'),
    'bad std': (
        {**UNTRAINED, 'mean': [1.0], 'std': [0.0]},
        r'model\.teacher\.std=\[0\.0\]: .*above 0',
    ),
    'bad size': ({**UNTRAINED, 'input_size': 0}, r'model\.teacher\.input_size=0: pixels'),
    'bad interpolation': ({**UNTRAINED, 'interpolation': 'area'}, r"interpolation='area'.*bilin"),
    'bad switch': ({'timm': 'test_resnet', 'untrained': 'yes'}, r"untrained='yes': True or False"),
}
BUILT = {
    'no file': (
        {'timm': 'test_resnet', 'checkpoint': 'gone.pth'},
        CheckpointError,
        r"model\.teacher \(timm='test_resnet'\): checkpoint gone\.pth: no such file",
    ),
    'no config': (
        {'config': 'gone.py', 'untrained': True},
        ConfigError,
        r'config gone\.py: no such file',
    ),
    'no such timm model': (
        {'timm': 'regnety_1', 'untrained': True},
        ConfigError,
        r"timm='regnety_1'\): Unknown model",
    ),
    'no such mmpretrain model': (
        {'mmpretrain': 'resnet1', 'untrained': True},
        ConfigError,
        r"mmpretrain='resnet1'\): Failed to find model",
    ),
    'bad argument': (
        {'model': 'pslt_tiny', 'untrained': True, 'depht': 3},
        ConfigError,
        r"model='pslt_tiny'\): .*depht",
    ),
    'another number of classes': (
        {'config': str(DIGITS), 'untrained': True},
        ConfigError,
        r'tells apart 10 classes, the student \(model\.head\.num_classes\) 5',
    ),
}
DISTILLATIONS = [
    ({'mode': 'medium'}, r"distillation\.mode='medium': 'hard' or 'soft'"),
    ({'weight': 1.2}, r'distillation\.weight=1\.2: a number from 0 to 1'),
    ({'weight': -0.1}, r'distillation\.weight=-0\.1'),
    ({'weight': '1'}, r"distillation\.weight='1'"),
    ({'temperature': 0}, r'distillation\.temperature=0: a number above 0'),
    ({'tau': 3}, r'distillation\.tau=3: no such key; there are mode, weight, temperature'),
    ('hard', r"distillation='hard': a dict is needed"),
]


@pytest.mark.parametrize('fault', AT_ONCE)
def test_a_bad_teacher_is_refused_at_once(fault):
    teacher, message = AT_ONCE[fault]
    with pytest.raises(ConfigError, match=message):
        build(teacher)


@pytest.mark.parametrize('fault', BUILT)
def test_a_bad_teacher_is_refused_before_training(fault):
    teacher, error, message = BUILT[fault]
    with pytest.raises(error, match=message):
        build(teacher).init_weights()


@pytest.mark.parametrize(('given', 'message'), DISTILLATIONS, ids=str)
def test_a_bad_distillation_is_refused_at_once(given, message):
    with pytest.raises(ConfigError, match=message):
        build(distillation=given)


def test_weights_of_another_model_are_refused(tmp_path):
    other = timm.create_model('test_resnet', num_classes=7)
    torch.save(other.state_dict(), tmp_path / 'seven.pth')
    torch.save({'fc.weight': torch.zeros(CLASSES, 96)}, tmp_path / 'part.pth')
    for file, message in (('seven', r'fc\.weight \(7, .*instead of \(5, '), ('part', 'not in the')):
        with pytest.raises(CheckpointError, match=message):
            build(
                {'timm': 'test_resnet', 'checkpoint': str(tmp_path / f'{file}.pth')}
            ).init_weights()


def test_weights_that_run_code_are_refused_unless_trusted(tmp_path):
    theirs = timm.create_model('test_resnet', num_classes=CLASSES)
    torch.save({'model': theirs.state_dict(), 'args': re.compile('x')}, tmp_path / 'a.pth')
    teacher = {'timm': 'test_resnet', 'checkpoint': str(tmp_path / 'a.pth')}
    with pytest.raises(CheckpointError, match='could run code'):
        build(teacher).init_weights()
    build({**teacher, 'trust': True}).init_weights()


def test_a_missing_timm_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ConfigError, match='timm is not installed: pip install timm'):
        build().init_weights()


def test_a_head_with_a_loss_of_its_own_is_refused():
    head = {'type': 'ArcFaceClsHead', 'num_classes': CLASSES, 'in_channels': 192}
    with pytest.raises(ConfigError, match=r'model\.head \(type ArcFaceClsHead\)'):
        build(model={**FAMILIES['PSLT'], **POOL, 'head': head})
