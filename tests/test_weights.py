"""Names of published weights, safe reading, and loads that say what they did."""

import importlib.util
import pickle
from pathlib import Path

import golden
import pytest
import timm
import torch
from mmengine.logging import MMLogger
from safetensors.torch import save_file

import effvit_mm
from effvit_mm.backbones import PSLT
from effvit_mm.errors import CheckpointError
from effvit_mm.weights.checkpoint import get_state_dict, load_weights, read_checkpoint

DATA = Path(__file__).parent / 'data'
CONVERTER = Path(__file__).parents[1] / 'tools' / 'model_converters' / 'convert.py'

# A model of each family that timm has, by timm's name.
TIMM = {
    'crossvit_9': 'crossvit_9_240',
    'deit_tiny': 'deit_tiny_patch16_224',
    'deit_tiny_distilled': 'deit_tiny_distilled_patch16_224',
    'levit_128s': 'levit_128s',
    'mvitv2_tiny': 'mvitv2_tiny',
}
# Those whose attention is not the published network's.
OTHER_ATTENTION = [*effvit_mm.list_models('castling_*'), *effvit_mm.list_models('lightweight_*')]


@pytest.fixture(scope='module')
def published():
    spec, _ = golden.load(DATA / 'pslt_tiny_cls224.npz')
    return {k: torch.from_numpy(v) for k, v in golden.golden_state(spec['keys']).items()}


@pytest.fixture(scope='module')
def converter():
    spec = importlib.util.spec_from_file_location('convert', CONVERTER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Malicious:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


def test_names_map_one_to_one(published):
    ours = effvit_mm.convert_state_dict(published, 'pslt_tiny')
    assert ours.keys() == effvit_mm.create_model('pslt_tiny').state_dict().keys()
    assert len(ours) == len(published)


def test_counters_and_masks_are_dropped(published):
    extra = {
        'layers.0.blocks.0.blocks.1.attn_mask': torch.zeros(1),
        'layers.0.blocks.0.blocks.1.attn.relative_position_index': torch.zeros(1),
        'conv_layers.0.total_ops': torch.zeros(1),
        'total_params': torch.zeros(1),
    }
    ours = effvit_mm.convert_state_dict({**published, **extra}, 'pslt_tiny')
    assert len(ours) == len(published)


def test_unknown_name_raises(published):
    with pytest.raises(CheckpointError, match=r'unknown.*layers\.0\.blocks\.0\.extra'):
        effvit_mm.convert_state_dict(
            {**published, 'layers.0.blocks.0.extra': torch.zeros(1)}, 'pslt_tiny'
        )
    with pytest.raises(CheckpointError, match=r'unknown: layers\.0\.blocks\.10\.'):
        name = 'layers.0.blocks.10.pointconv.bias'
        effvit_mm.convert_state_dict({name: torch.zeros(192)}, 'pslt_tiny')


def test_weights_of_another_size_raise(published):
    with pytest.raises(CheckpointError, match='shapes differ'):
        effvit_mm.convert_state_dict(published, 'pslt_base')
    with pytest.raises(CheckpointError, match='no model'):
        effvit_mm.convert_state_dict(published, 'pslt_huge')


def test_head_of_other_class_count_converts(published):
    state = {**published, 'head.weight': torch.zeros(5, 384), 'head.bias': torch.zeros(5)}
    ours = effvit_mm.convert_state_dict(state, 'pslt_tiny')
    report = load_weights(effvit_mm.create_model('pslt_tiny', num_classes=5), ours, strict=True)
    assert not report.missing


@pytest.mark.parametrize('name', [n for n in effvit_mm.list_models() if n not in OTHER_ATTENTION])
def test_export_undoes_conversion(name):
    with torch.device('meta'):
        ours = effvit_mm.create_model(name).state_dict()
        backbone = effvit_mm.create_model(name, features_only=True).state_dict()
    exported = effvit_mm.export_state_dict(ours, name)
    assert len(exported) == len(ours)
    back = effvit_mm.convert_state_dict(exported, name)
    assert back.keys() == ours.keys() and all(back[key] is ours[key] for key in ours)
    # A backbone has the same names, whether a classifier's prefix stands before them or not.
    prefixed = {f'backbone.{key}': value for key, value in backbone.items()}
    bare = effvit_mm.export_state_dict(backbone, name)
    assert bare == effvit_mm.export_state_dict(prefixed, name)
    assert bare.keys() <= exported.keys()


@torch.no_grad()
def randomise(model):
    """Weights that hide nothing: no zeros, no ones, no norm at its start."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith(('running_var', 'norm.weight', 'bn.weight')) or value.ndim == 1:
            one = name.endswith(('running_var', 'weight'))
            value.copy_(0.2 * noise.abs() + 0.7 if one else 0.1 * noise)
        elif value.ndim > 1:
            value.copy_(noise / value[0].numel() ** 0.5)
    return model.eval()


@pytest.mark.parametrize('name', TIMM)
@torch.no_grad()
def test_timm_runs_our_weights(name):
    ours = randomise(effvit_mm.create_model(name))
    theirs = timm.create_model(TIMM[name]).eval()
    theirs.load_state_dict(effvit_mm.export_state_dict(ours.state_dict(), name), strict=True)
    size = 240 if name.startswith('crossvit') else 224
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    want, got = ours(x), theirs(x)
    assert (got - want).abs().max() <= 1e-4 * want.abs().max()
    assert (
        want[0] - want[1]
    ).abs().max() > 1e-2 * want.abs().max()  # the weights tell images apart


@pytest.mark.parametrize('name', OTHER_ATTENTION)
def test_other_attention_has_no_published_network(name):
    kind = 'LinearAngularAttention' if name.startswith('castling') else 'EAttention'
    with pytest.raises(CheckpointError, match=f'{name} has {kind} where .* softmax attention'):
        effvit_mm.export_state_dict({'backbone.norm.weight': torch.zeros(1)}, name)


@pytest.mark.parametrize(
    ('state', 'name', 'message'),
    [
        ({'backbone.norm.weight': (192,)}, 'deit_huge', "no model 'deit_huge'"),
        ({'backbone.norm.weight': (192,)}, 'deit_small', r'norm\.weight \(192,\) instead'),
        ({'backbone.norm.scale': (192,)}, 'deit_tiny', 'unknown: backbone.norm.scale'),
        ({'norm.scale': (192,)}, 'deit_tiny', 'unknown: norm.scale'),
        ({'blocks.0.norm1.weight': (192,)}, 'deit_tiny', 'unknown: blocks.0.norm1.weight'),
        ({'head.fcs.0.bias': (1000,)}, 'deit_tiny', 'unknown: head.fcs.0.bias'),
        ({}, 'deit_tiny', 'no weights of deit_tiny'),
    ],
)
def test_what_cannot_be_exported_is_named(state, name, message):
    state = {key: torch.zeros(shape) for key, shape in state.items()}
    with pytest.raises(CheckpointError, match=message):
        effvit_mm.export_state_dict(state, name)


def test_our_names_are_not_published_ones():
    state = effvit_mm.create_model('deit_tiny').state_dict()
    with pytest.raises(CheckpointError, match=r'unknown: backbone\.stem\.cls_token'):
        effvit_mm.convert_state_dict(state, 'deit_tiny')


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_create_model_from_file(published, tmp_path, suffix):
    ours = effvit_mm.convert_state_dict(published, 'pslt_tiny')
    path = tmp_path / f'weights.{suffix}'
    save_file(ours, path) if suffix == 'safetensors' else torch.save({'state_dict': ours}, path)
    model = effvit_mm.create_model('pslt_tiny', checkpoint=path)
    assert all(torch.equal(v, ours[k]) for k, v in model.state_dict().items())
    backbone = effvit_mm.create_model('pslt_tiny', features_only=True, checkpoint=path)
    assert torch.equal(backbone.stem[0][0].weight, ours['backbone.stem.0.0.weight'])


def test_pretrained_init_finds_the_backbone_and_reports(published, tmp_path, monkeypatch):
    logged = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'info', logged.append)
    ours = effvit_mm.convert_state_dict(published, 'pslt_tiny')
    torch.save({'state_dict': ours, 'meta': {}}, tmp_path / 'a.pth')
    init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth')}
    for prefix in ({}, {'prefix': 'backbone'}, {'prefix': 'backbone.'}):
        model = PSLT('tiny', final_norm=False, out_indices=range(4), init_cfg={**init, **prefix})
        model.init_weights()
        name = 'stages.3.1.fusion.proj.weight'
        assert torch.equal(model.state_dict()[name], ours[f'backbone.{name}'])
    assert len(logged) == 3 and all('loaded 1423 of 1423 tensors' in line for line in logged)


def test_nothing_matching_is_an_error(published, tmp_path):
    torch.save(published, tmp_path / 'published.pth')
    init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'published.pth')}
    with pytest.raises(CheckpointError, match='none of its 1427 tensors fits'):
        PSLT('tiny', final_norm=False, init_cfg=init).init_weights()
    with pytest.raises(CheckpointError, match=r"no tensor name starts with 'nose\."):
        PSLT('tiny', init_cfg={**init, 'prefix': 'nose'}).init_weights()


def test_counters_alone_are_no_match():
    """Every batch norm has a counter of the same shape; that must not count as a match."""
    model = PSLT('tiny')
    state = {k: v for k, v in model.state_dict().items() if k.endswith('num_batches_tracked')}
    with pytest.raises(CheckpointError, match='none of its'):
        load_weights(model, state)


def test_report_counts_what_differs():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    state = {'0.weight': torch.ones(3, 2), '1.weight': torch.ones(5, 3), 'x': torch.ones(1)}
    report = load_weights(model, state, source='file.pth')
    assert str(report) == (
        'loaded 1 of 4 tensors from file.pth; 2 not in the file: 0.bias, 1.bias; '
        '1 of another shape: 1.weight (5, 3) instead of (4, 3); '
        '1 in the file but not in the model: x'
    )
    assert torch.equal(model[0].weight, torch.ones(3, 2))
    with pytest.raises(CheckpointError, match='loaded 1 of 4'):
        load_weights(model, state, strict=True)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    trap, path = tmp_path / 'trap', tmp_path / 'bad.pth'
    path.write_bytes(pickle.dumps({'state_dict': Malicious(trap)}))
    torch.save({'state_dict': Malicious(trap)}, tmp_path / 'bad2.pth')
    trap.unlink(missing_ok=True)
    for file in (path, tmp_path / 'bad2.pth'):
        with pytest.raises(CheckpointError):
            read_checkpoint(file)
        assert not trap.exists()
    with pytest.raises(CheckpointError, match='--trust-checkpoint'):
        read_checkpoint(tmp_path / 'bad2.pth')
    read_checkpoint(tmp_path / 'bad2.pth', trust=True)
    assert trap.exists()


def test_log_history_of_mmengine_is_read_safely(tmp_path):
    from mmengine.logging import MessageHub

    hub = MessageHub('test_weights')
    hub.update_scalar('train/loss', 0.5)
    hub.update_info('epoch', 3)
    torch.save({'message_hub': hub.state_dict(), 'state_dict': {}}, tmp_path / 'a.pth')
    content = read_checkpoint(tmp_path / 'a.pth')
    assert content['message_hub']['log_scalars']['train/loss'].current() == 0.5


@pytest.mark.parametrize('content', [b'', b'no checkpoint', b'PK\x03\x04 cut short'])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_unreadable_files_are_named(tmp_path, content, suffix):
    path = tmp_path / f'broken.{suffix}'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f'broken.{suffix}'):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match='no such file'):
        read_checkpoint(tmp_path / 'absent.pth')


def test_file_without_weights(tmp_path):
    torch.save({'epoch': 3}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='holds no weights'):
        get_state_dict(read_checkpoint(tmp_path / 'a.pth'))
    torch.save([1, 2], tmp_path / 'b.pth')
    with pytest.raises(CheckpointError, match='holds a list'):
        read_checkpoint(tmp_path / 'b.pth')


def test_wrappers_are_unwrapped():
    weights = {'a': torch.ones(1)}
    for content in ({'model': weights}, {'state_dict': {'module.a': torch.ones(1)}}, weights):
        assert get_state_dict(content).keys() == {'a'}


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
        ('pslt_tiny', 'a.onnx', '.pth or .safetensors'),
        ('pslt_tiny', '/proc/nowhere/a.pth', 'cannot be written'),
    ],
)
def test_converter_tool_refuses(converter, published, tmp_path, capsys, model, target, message):
    torch.save(published, tmp_path / 'published.pth')
    argv = [str(tmp_path / 'published.pth'), model, str(tmp_path / target)]
    assert converter.main(argv) == 2
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['published.pth']


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


def test_converter_tool_cannot_export_other_attention(converter, tmp_path, capsys):
    torch.save(effvit_mm.create_model('castling_deit_tiny').state_dict(), tmp_path / 'a.pth')
    argv = [str(tmp_path / 'a.pth'), 'castling_deit_tiny', str(tmp_path / 'b.pth'), '--to', 'timm']
    assert converter.main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: castling_deit_tiny has LinearAngularAttention')
    assert err.count('\n') == 1 and not (tmp_path / 'b.pth').exists()
