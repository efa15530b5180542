"""What messages about weights advise, done: they load."""

from __future__ import annotations

import sys

import pytest
import torch
from programs import load_tool
from remedies import said, tries
from weight_files import SMALL, assert_same, published_weights, small_network

import effvit_mm
from effvit_mm.errors import CheckpointError, ConfigError
from effvit_mm.openmm.backbones import VisionTransformer
from effvit_mm.weights import load_checkpoint, read_checkpoint


@pytest.fixture(scope='module')
def small():
    return small_network()


def model(**kwargs):
    return effvit_mm.create_model('deit_tiny', num_classes=5, **SMALL, **kwargs)


@tries('. Build it anew and load the weights from before switch_to_deploy()')
def test_a_deployed_network_that_is_to_be_trained(small):
    deployed = model()
    deployed.load_state_dict(small.state_dict())
    before = {name: value.clone() for name, value in deployed.state_dict().items()}
    deployed.switch_to_deploy()
    with pytest.raises(RuntimeError, match='Build it anew and load the weights from before'):
        deployed.train()
    anew = model()
    load_checkpoint(anew, before, require='exact')
    assert_same(anew, small)
    loss = anew.train()(torch.rand(2, 3, 64, 64)).square().mean()
    loss.backward()
    before = anew.head.fc.weight.clone()
    torch.optim.SGD(anew.parameters(), lr=1.0).step()
    assert not torch.equal(anew.head.fc.weight, before)


@tries(': install the package that has it')
def test_objects_of_a_module_that_is_missing(tmp_path, monkeypatch):
    packages = tmp_path / 'packages'
    packages.mkdir()
    (packages / 'some_trainer.py').write_text('class Settings:\n    rate = 0.1\n')
    with monkeypatch.context() as patch:
        patch.syspath_prepend(packages)
        from some_trainer import Settings

        torch.save({'state_dict': {'w': torch.ones(1)}, 'args': Settings()}, tmp_path / 'a.pth')
    del sys.modules['some_trainer']
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(tmp_path / 'a.pth', trust=True)
    assert said(
        'module some_trainer, which is not installed: install the package', str(error.value)
    )
    monkeypatch.syspath_prepend(packages)
    assert read_checkpoint(tmp_path / 'a.pth', trust=True)['args'].rate == 0.1
    del sys.modules['some_trainer']


@tries('; download it first')
@pytest.mark.parametrize('scheme', ['s3', 'file', 'ftp'])
def test_an_address_that_is_not_of_the_web(small, tmp_path, scheme):
    torch.save(small.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='; download it first'):
        model(checkpoint=f'{scheme}://{tmp_path}/a.pth')
    assert_same(model(checkpoint=tmp_path / 'a.pth'), small)


TIMM_HABITS = {
    '; give create_model(name, checkpoint=FILE) yours': {'pretrained': True},
    '; repeat a grey one: x.expand(-1, 3, -1, -1)': {'in_chans': 1},
    '; use drop_path_rate, stochastic depth': {'drop_rate': 0.2},
    'give num_classes=0 for pooled features, features_only=True for maps': {'global_pool': ''},
}


@tries(*TIMM_HABITS)
def test_arguments_of_timm(small, tmp_path):
    for words, argument in TIMM_HABITS.items():
        with pytest.raises(ConfigError) as error:
            model(**argument)
        assert said(words, str(error.value))
    with pytest.raises(ConfigError, match='list_models has no such argument: no weights are'):
        effvit_mm.list_models(pretrained=True)
    torch.save(small.state_dict(), tmp_path / 'a.pth')
    assert_same(model(checkpoint=tmp_path / 'a.pth'), small)
    assert model()(torch.rand(2, 1, 64, 64).expand(-1, 3, -1, -1)).shape == (2, 5)
    assert effvit_mm.create_model('deit_tiny', drop_path_rate=0.2)
    pooled = effvit_mm.create_model('deit_tiny', num_classes=0, **SMALL)
    maps = effvit_mm.create_model('deit_tiny', features_only=True, **SMALL)
    with torch.no_grad():
        assert pooled.eval()(torch.rand(1, 3, 64, 64)).ndim == 2
        assert maps.eval()(torch.rand(1, 3, 64, 64))[-1].ndim == 4


@tries('; give {} in its place')
def test_the_text_that_names_the_last_checkpoint(small, tmp_path):
    file, last = tmp_path / 'epoch_3.pth', tmp_path / 'last_checkpoint'
    torch.save(small.state_dict(), file)
    for text in (f'{file}', f'{file}\n'):
        last.write_text(text)
        with pytest.raises(CheckpointError, match=f'; give {file} in its place') as error:
            model(checkpoint=last)
    assert_same(model(checkpoint=str(error.value).split('give ')[1].split(' in')[0]), small)


def test_a_checkpoint_cut_anywhere_and_an_exported_network(small, tmp_path):
    torch.save({'state_dict': small.state_dict(), 'padding': torch.zeros(400_000)}, tmp_path / 'a')
    whole = (tmp_path / 'a').read_bytes()
    for size in (4, 100, 5_000, 20_000, 70_000, 500_000, len(whole) - 1):
        (tmp_path / 'cut.pth').write_bytes(whole[:size])
        with pytest.raises(
            CheckpointError, match=r'cut\.pth cannot be read: the file is cut short'
        ):
            read_checkpoint(tmp_path / 'cut.pth')
    (tmp_path / 'a.onnx').write_bytes(b'\x08\n\x12\x07')
    with pytest.raises(
        CheckpointError, match=r'a\.onnx is an exported network: .* it stands alone'
    ):
        model(checkpoint=tmp_path / 'a.onnx')


@tries('; take a checkpoint from before they became so')
def test_weights_that_are_no_numbers(small, tmp_path):
    state = small.state_dict()
    torch.save(state, tmp_path / 'epoch_1.pth')
    torch.save({**state, 'head.fc.bias': torch.full((5,), torch.nan)}, tmp_path / 'epoch_2.pth')
    with pytest.raises(CheckpointError, match='; take a checkpoint from before'):
        model(checkpoint=tmp_path / 'epoch_2.pth')
    assert_same(model(checkpoint=tmp_path / 'epoch_1.pth'), small)


@tries(
    'is it of another variant? {} and effvit_mm.convert_state_dict(state, name) change the names'
)
def test_published_weights_of_another_variant(tmp_path):
    published = published_weights()
    source, target = tmp_path / 'published.pth', tmp_path / 'ours.pth'
    torch.save(published, source)
    with pytest.raises(CheckpointError) as error:
        effvit_mm.create_model('pslt_base', checkpoint=source)
    assert said('{} and effvit_mm.convert_state_dict(state, name) change', str(error.value))
    ours = effvit_mm.convert_state_dict(published, 'pslt_tiny')
    assert 'tools/model_converters/convert.py' in str(error.value)
    converter = load_tool('model_converters/convert')
    assert converter.main([str(source), 'pslt_tiny', str(target)]) == 0
    classes = len(ours['head.fc.bias'])
    for weights in (ours, read_checkpoint(target)):
        network = effvit_mm.create_model('pslt_tiny', num_classes=classes)
        load_checkpoint(network, weights, require='all')
        assert torch.equal(network.state_dict()['head.fc.bias'], ours['head.fc.bias'])


@tries(': write to {}')
def test_a_target_of_the_converter(small, tmp_path, capsys):
    converter = load_tool('model_converters/convert')
    source = tmp_path / 'published.pth'
    torch.save(published_weights(), source)
    assert converter.main([str(source), 'pslt_tiny', str(tmp_path / 'ours.bin')]) == 2
    line = capsys.readouterr().err
    assert said('ours.bin: write to {}', line)
    for suffix in line.strip().rpartition('write to ')[2].split(' or '):
        assert converter.main([str(source), 'pslt_tiny', str(tmp_path / f'ours{suffix}')]) == 0
        assert read_checkpoint(tmp_path / f'ours{suffix}')['state_dict']


# Several networks in a file -----------------------------------------------------------------------


@tries(
    "take them with prefix={} (of load_checkpoint, or of the backbone's init_cfg="
    "dict(type='Pretrained', checkpoint=..., prefix=...))"
)
@pytest.mark.parametrize('inner', ['', 'backbone.'])
def test_student_and_teacher_in_a_file(small, tmp_path, inner):
    teacher = {inner + name: value for name, value in small.backbone.state_dict().items()}
    state = {f'student.{name}': torch.zeros_like(value) for name, value in teacher.items()}
    state |= {f'teacher.{name}': value for name, value in teacher.items()}
    torch.save({'state_dict': state}, tmp_path / 'both.pth')

    def backbone(**prefix):
        init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'both.pth'), **prefix}
        built = VisionTransformer(**SMALL, init_cfg=init)
        built.init_weights()
        return built

    with pytest.raises(CheckpointError) as error:
        backbone()
    named = f'student.{inner}'.removesuffix('.'), f'teacher.{inner}'.removesuffix('.')
    assert f"The names after '{named[0]}' or '{named[1]}' do: take them with" in str(error.value)
    assert_same(backbone(prefix=named[1]), small.backbone)
    other = VisionTransformer(**SMALL)
    load_checkpoint(other, tmp_path / 'both.pth', prefix=named[1], require='exact')
    assert_same(other, small.backbone)


def test_a_file_of_one_other_network_has_no_parts_to_take(small):
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(small, {'layer.weight': torch.zeros(3), 'other.bias': torch.zeros(3)})
    assert 'prefix' not in str(error.value)
