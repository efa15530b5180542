"""convert.py: published weights to ours and back."""

import pytest
import torch
from programs import load_tool
from remedies import tries
from safetensors.torch import load_file
from weight_files import published_weights

import effvit_mm
from effvit_mm.weights import get_state_dict, read_checkpoint


@pytest.fixture(scope='module')
def published():
    return published_weights()


@pytest.fixture(scope='module')
def converter():
    return load_tool('model_converters/convert')


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_converter_tool(converter, published, tmp_path, suffix, capsys):
    torch.save({'model': published, 'epoch': 299}, tmp_path / 'published.pth')
    target = tmp_path / f'ours.{suffix}'
    assert converter.main([str(tmp_path / 'published.pth'), 'pslt_tiny', str(target)]) == 0
    assert 'loaded 1427 of 1427 tensors' in capsys.readouterr().out
    model = effvit_mm.create_model('pslt_tiny', checkpoint=target)
    assert torch.equal(model.head.fc.bias, published['head.bias'])


@pytest.mark.parametrize(
    ('model', 'target', 'message'),
    [
        ('pslt_tinny', 'a.pth', "no model 'pslt_tinny'"),
        ('pslt_base', 'a.pth', 'shapes differ'),
        ('pslt_tiny', 'a.onnx', '.safetensors or .pth'),
        ('pslt_tiny', '/proc/nowhere/a.pth', 'cannot be written'),
    ],
)
def test_converter_tool_refuses(converter, published, tmp_path, capsys, model, target, message):
    torch.save(published, tmp_path / 'published.pth')
    argv = [str(tmp_path / 'published.pth'), model, str(tmp_path / target)]
    assert converter.main(argv) == 2
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['published.pth']


@tries('; they have {} already, take them as they are')
@pytest.mark.parametrize('name', ['crossvit_tiny', 'deit_tiny_distilled', 'levit_128s'])
def test_converter_tool_writes_timms_names(converter, tmp_path, name, capsys):
    model = effvit_mm.create_model(name, num_classes=7)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'epoch_1.pth')
    target = tmp_path / 'timm.safetensors'
    argv = [str(tmp_path / 'epoch_1.pth'), name, str(target)]
    assert converter.main([*argv, '--to', 'timm']) == 0
    count = len(model.state_dict())
    assert f'loaded {count} of {count} tensors' in capsys.readouterr().out
    written = get_state_dict(read_checkpoint(target))
    assert written.keys() == effvit_mm.export_state_dict(model.state_dict(), name).keys()
    # And back.
    assert converter.main([str(target), name, str(tmp_path / 'ours.pth')]) == 0
    back = get_state_dict(read_checkpoint(tmp_path / 'ours.pth'))
    assert all(torch.equal(back[key], value) for key, value in model.state_dict().items())
    # What needs no conversion is told so, and is taken as it is.
    for file, names, said in (
        ('epoch_1.pth', 'ours', 'our'),
        (target.name, 'timm', 'the published'),
    ):
        argv = [str(tmp_path / file), name, str(tmp_path / 'same.pth'), '--to', names]
        assert converter.main(argv) == 2
        assert f'; they have {said} names already, take them as they are' in capsys.readouterr().err
        assert effvit_mm.create_model(name, num_classes=7, checkpoint=tmp_path / file)


def test_converter_tool_says_which_weights_it_took(converter, published, tmp_path, capsys):
    zeros = {key: torch.zeros_like(value) for key, value in published.items()}
    torch.save({'model': zeros, 'model_ema': published}, tmp_path / 'both.pth')
    argv = [str(tmp_path / 'both.pth'), 'pslt_tiny', str(tmp_path / 'ours.pth')]
    for option, said in ((), 'averaged weights, key model_ema'), (('--no-ema',), 'key model\n'):
        assert converter.main([*argv, *option]) == 0
        assert said in capsys.readouterr().out
        bias = get_state_dict(read_checkpoint(tmp_path / 'ours.pth'))['head.fc.bias']
        assert torch.equal(bias, (zeros if option else published)['head.bias'])


@tries(': there is such a file; name one to write')
def test_converter_tool_writes_safetensors_unless_told(
    converter, published, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    torch.save(published, 'published.pth')
    assert converter.main(['published.pth', 'pslt_tiny']) == 0
    assert 'wrote pslt_tiny.safetensors' in capsys.readouterr().out
    written = load_file('pslt_tiny.safetensors')
    assert torch.equal(written['head.fc.bias'], published['head.bias'])
    # What is there already may be the source itself.
    assert converter.main(['pslt_tiny.safetensors', 'pslt_tiny', '--to', 'timm']) == 2
    line = capsys.readouterr().err
    assert 'target pslt_tiny.safetensors: there is such a file; name one to write' in line
    argv = ['pslt_tiny.safetensors', 'pslt_tiny', 'theirs.safetensors', '--to', 'timm']
    assert converter.main(argv) == 0
    assert load_file('theirs.safetensors').keys() == published.keys()


def test_converter_tool_cannot_export_other_attention(converter, tmp_path, capsys):
    torch.save(effvit_mm.create_model('castling_deit_tiny').state_dict(), tmp_path / 'a.pth')
    argv = [str(tmp_path / 'a.pth'), 'castling_deit_tiny', str(tmp_path / 'b.pth'), '--to', 'timm']
    assert converter.main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: castling_deit_tiny has LinearAngularAttention')
    assert err.count('\n') == 1 and not (tmp_path / 'b.pth').exists()
