"""Names of published weights, safe reading, and loads that say what they did."""

import pickle
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import golden
import pytest
import timm
import torch
from mmengine.logging import MMLogger
from programs import load_tool
from safetensors.torch import save, save_file

import effvit_mm
from effvit_mm.errors import CheckpointError
from effvit_mm.openmm.backbones import PSLT, VisionTransformer
from effvit_mm.weights import get_state_dict, load_checkpoint, read_checkpoint

DATA = Path(__file__).parent / 'data'

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

# Arguments that make a model of DeiT's family small.
SMALL = {
    'arch': {'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': 3, 'mlp_ratio': 2},
    'img_size': 64,
}


@pytest.fixture(scope='module')
def published():
    spec, _ = golden.load(DATA / 'pslt_tiny_cls224.npz')
    return {k: torch.from_numpy(v) for k, v in golden.golden_state(spec['keys']).items()}


@pytest.fixture(scope='module')
def converter():
    return load_tool('model_converters/convert')


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
    report = load_checkpoint(
        effvit_mm.create_model('pslt_tiny', num_classes=5), ours, require='exact'
    )
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
    torch.save({'encoder.weight': torch.zeros(3)}, tmp_path / 'other.pth')
    init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'other.pth')}
    with pytest.raises(CheckpointError, match='none of its 1 tensors fits'):
        PSLT('tiny', final_norm=False, init_cfg=init).init_weights()
    with pytest.raises(CheckpointError, match=r"no tensor name starts with 'nose\."):
        PSLT('tiny', init_cfg={**init, 'prefix': 'nose'}).init_weights()


def test_counters_alone_are_no_match():
    """Every batch norm has a counter of the same shape; that must not count as a match."""
    model = PSLT('tiny')
    state = {k: v for k, v in model.state_dict().items() if k.endswith('num_batches_tracked')}
    with pytest.raises(CheckpointError, match='none of its'):
        load_checkpoint(model, state)


def test_report_counts_what_differs():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    state = {'0.weight': torch.ones(3, 2), '1.weight': torch.ones(5, 3), 'x': torch.ones(1)}
    report = load_checkpoint(model, state, source='file.pth')
    assert str(report) == (
        'loaded 1 of 4 tensors from file.pth; 2 not in the file: 0.bias, 1.bias; '
        '1 of another shape: 1.weight (5, 3) instead of (4, 3); '
        '1 in the file but not in the model: x'
    )
    assert torch.equal(model[0].weight, torch.ones(3, 2))
    with pytest.raises(CheckpointError, match='loaded 1 of 4'):
        load_checkpoint(model, state, require='exact')


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


# Names on both sides ------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def small():
    """A small classifier with weights that hide nothing."""
    return randomise(effvit_mm.create_model('deit_tiny', num_classes=5, **SMALL))


def assert_same(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_weights_are_found_in_every_layout():
    weights = {'a': torch.ones(1)}
    for content in ({'model': weights}, {'state_dict': {'module.a': torch.ones(1)}}, weights):
        assert get_state_dict(content).keys() == {'a'}


@pytest.mark.parametrize(
    'wrap',
    [
        lambda name: f'module.{name}',
        lambda name: f'_orig_mod.{name}',
        lambda name: f'module._orig_mod.{name}',
        lambda name: f'_orig_mod.module.{name}',
        lambda name: name.replace('backbone.', 'backbone._orig_mod.'),
        lambda name: 'module.' + name.replace('backbone.', 'backbone._orig_mod.'),
        lambda name: name.replace('stages.2.', 'stages.2._orig_mod.'),
        lambda name: name.replace('backbone.', 'backbone.module.'),
        lambda name: f'model.{name}',  # Lightning's
        lambda name: f'module.net.model.{name}',
    ],
)
def test_names_of_wrappers_do_not_count(small, tmp_path, wrap):
    state = {wrap(name): value for name, value in small.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'a.pth')
    model = effvit_mm.create_model(
        'deit_tiny', num_classes=5, checkpoint=tmp_path / 'a.pth', **SMALL
    )
    assert_same(model, small)
    backbone = effvit_mm.create_model(
        'deit_tiny', features_only=True, checkpoint=tmp_path / 'a.pth', **SMALL
    )
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, small.state_dict()[f'backbone.{name}'])


def test_weights_that_are_no_numbers_are_refused(small):
    state = small.state_dict()
    assert load_checkpoint(small, {'state_dict': state}).loaded
    state = {**state, 'head.fc.bias': state['head.fc.bias'] * float('nan')}
    with pytest.raises(CheckpointError, match=r'1 of its tensors hold NaN .*head\.fc\.bias'):
        load_checkpoint(small, {'state_dict': state})


def test_a_wrapped_model_takes_bare_names(small):
    model = effvit_mm.create_model('deit_tiny', num_classes=5, **SMALL)
    wrapped = torch.nn.Sequential()
    wrapped.add_module('module', torch.compile(model))
    report = load_checkpoint(wrapped, small.state_dict(), require='exact')
    assert report.loaded[0].startswith('module._orig_mod.backbone.')
    assert_same(model, small)


def test_names_that_a_wrapper_would_make_equal_stay_apart():
    model = torch.nn.ModuleDict({'module': torch.nn.Linear(2, 2), 'fc': torch.nn.Linear(2, 2)})
    model['module'].register_module('fc', torch.nn.Linear(2, 2))
    state = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    load_checkpoint(model, state, require='exact')
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_backbone_s_weights_load_into_a_classifier(small, tmp_path):
    state = small.backbone.state_dict()
    report = load_checkpoint(effvit_mm.create_model('deit_tiny', num_classes=5, **SMALL), state)
    assert report.missing == ['head.fc.weight', 'head.fc.bias'] and not report.unexpected
    assert len(report.loaded) == len(state)


def test_an_explicit_prefix_is_taken_alone(small):
    state = {f'teacher.{name}': value for name, value in small.state_dict().items()}
    state |= {f'student.{name}': torch.zeros_like(v) for name, v in small.state_dict().items()}
    model = effvit_mm.create_model('deit_tiny', num_classes=5, **SMALL)
    load_checkpoint(model, state, prefix='teacher', require='exact')
    assert_same(model, small)
    with pytest.raises(CheckpointError, match='none of its'):
        load_checkpoint(model.backbone, small.state_dict(), prefix='')


# Averaged weights ---------------------------------------------------------------------------------


def averages(layout, trained, averaged):
    """A checkpoint with both, as a framework writes it."""
    if layout == 'mmengine':  # which exchanges them
        wrapped = {f'module.{name}': value for name, value in trained.items()}
        steps = {'steps': torch.tensor(9)}
        return {'state_dict': averaged, 'ema_state_dict': {**steps, **wrapped}}
    if layout == 'timm':
        return {'state_dict': trained, 'state_dict_ema': averaged}
    return {'model': trained, 'model_ema': averaged}


@pytest.mark.parametrize('layout', ['mmengine', 'timm', 'authors'])
def test_averaged_weights_are_taken_unless_others_are_asked_for(layout, small, tmp_path, caplog):
    averaged = small.state_dict()
    trained = {k: v + 1 if v.is_floating_point() else v for k, v in averaged.items()}
    torch.save(averages(layout, trained, averaged), tmp_path / 'a.pth')
    for options, want, said in (
        ({}, averaged, 'averaged weights, key'),
        ({'use_ema': False}, trained, 'weights without averaging, key'),
    ):
        with caplog.at_level('INFO', 'effvit_mm'):
            model = effvit_mm.create_model(
                'deit_tiny', None, checkpoint=tmp_path / 'a.pth', **options, **SMALL
            )
        assert all(torch.equal(value, want[k]) for k, value in model.state_dict().items())
        assert said in caplog.messages[-1] and caplog.records[-1].levelname == 'INFO'
        backbone = VisionTransformer(
            **SMALL,
            init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth'), **options},
        )
        backbone.init_weights()
        assert torch.equal(backbone.norm.bias, want['backbone.norm.bias'])


def test_averages_alone(small, tmp_path):
    torch.save({'model_ema': small.state_dict()}, tmp_path / 'a.pth')
    assert_same(
        effvit_mm.create_model('deit_tiny', None, checkpoint=tmp_path / 'a.pth', **SMALL), small
    )
    with pytest.raises(CheckpointError, match=r'use_ema=False: .* averaged weights alone'):
        effvit_mm.create_model('deit_tiny', checkpoint=tmp_path / 'a.pth', use_ema=False, **SMALL)


# Published names ----------------------------------------------------------------------------------


@pytest.mark.parametrize('name', TIMM)
def test_timm_s_files_load_as_they_are(name, tmp_path, caplog):
    theirs = randomise(timm.create_model(TIMM[name], num_classes=5))
    save_file(theirs.state_dict(), tmp_path / 'timm.safetensors')
    with caplog.at_level('INFO', 'effvit_mm'):
        model = effvit_mm.create_model(name, None, checkpoint=tmp_path / 'timm.safetensors').eval()
    count = len(model.state_dict())
    assert f'loaded {count} of {count} tensors' in caplog.messages[-1]
    assert 'names as published for' in caplog.messages[-1]
    size = 240 if name.startswith('crossvit') else 224
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want, got = theirs(x), model(x)
    assert (got - want).abs().max() <= 1e-4 * want.abs().max()
    backbone = effvit_mm.create_model(
        name, features_only=True, checkpoint=tmp_path / 'timm.safetensors'
    )
    own = model.backbone.state_dict()
    assert all(torch.equal(value, own[k]) for k, value in backbone.state_dict().items())


def test_the_authors_files_load_as_they_are(published, tmp_path, caplog):
    """PSLT's, with the counters that its training leaves and DDP's prefix, into a backbone."""
    extra = {'layers.0.blocks.0.blocks.1.attn_mask': torch.zeros(1), 'total_ops': torch.zeros(1)}
    state = {f'module.{k}': v for k, v in {**published, **extra}.items()}
    torch.save({'model': state, 'epoch': 299}, tmp_path / 'a.pth')
    ours = effvit_mm.convert_state_dict(published, 'pslt_tiny')
    model = effvit_mm.create_model('pslt_tiny', checkpoint=tmp_path / 'a.pth')
    assert all(torch.equal(value, ours[k]) for k, value in model.state_dict().items())
    init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth')}
    backbone = PSLT('tiny', final_norm=False, init_cfg=init)
    backbone.init_weights()
    assert all(torch.equal(v, ours[f'backbone.{k}']) for k, v in backbone.state_dict().items())


def test_published_weights_of_another_image_size_are_resized(tmp_path):
    theirs = randomise(timm.create_model('deit_tiny_patch16_224', img_size=64, num_classes=5))
    torch.save(theirs.state_dict(), tmp_path / 'a.pth')
    model = effvit_mm.create_model('deit_tiny', None, checkpoint=tmp_path / 'a.pth')
    want = timm.layers.resample_abs_pos_embed(theirs.pos_embed, [14, 14], [4, 4])
    torch.testing.assert_close(model.backbone.stem.pos_embed[:, 1:], want[:, 1:])


def test_softmax_weights_start_another_attention(tmp_path, caplog):
    theirs = timm.create_model('deit_tiny_patch16_224', num_classes=5)
    torch.save(theirs.state_dict(), tmp_path / 'a.pth')
    model = effvit_mm.create_model('castling_deit_tiny', None, checkpoint=tmp_path / 'a.pth')
    assert torch.equal(
        model.backbone.stages[0][0].attn.qkv.weight, theirs.blocks[0].attn.qkv.weight
    )
    assert caplog.records[-1].levelname == 'WARNING' and 'not in the file' in caplog.messages[-1]


def test_a_published_distilled_network_is_no_plain_one(tmp_path):
    theirs = timm.create_model('deit_tiny_distilled_patch16_224')
    torch.save(theirs.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'published names, but also .*convert\.py'):
        effvit_mm.create_model('deit_tiny', checkpoint=tmp_path / 'a.pth')


def test_what_is_not_unmistakable_says_how_to_convert(published, tmp_path):
    torch.save(published, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'\(pslt_\*\) .* other shapes: .*convert_state_dict'):
        effvit_mm.create_model('pslt_base', checkpoint=tmp_path / 'a.pth')
    torch.save({**published, 'layers.0.extra': torch.zeros(1)}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'names that are not: layers\.0\.extra.*convert\.py'):
        effvit_mm.create_model('pslt_tiny', checkpoint=tmp_path / 'a.pth')


# Addresses ----------------------------------------------------------------------------------------


class Files(BaseHTTPRequestHandler):
    """Answers what the server's ``files`` has for a path, and counts the requests."""

    def do_GET(self):
        self.server.asked.append(self.path)
        content, announced = self.server.files.get(self.path, (None, 0))
        self.send_response(404 if content is None else 200)
        self.send_header('Content-Length', str(announced))
        self.end_headers()
        self.wfile.write(content or b'')

    def log_message(self, *args):
        """Nothing on the console."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    with ThreadingHTTPServer(('127.0.0.1', 0), Files) as served:
        served.files, served.asked = {}, []
        served.address = f'http://127.0.0.1:{served.server_port}'
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def serve(server, path, state):
    content = save(state)
    server.files[path] = (content, len(content))
    return server.address + path


def test_files_of_one_name_at_two_addresses_do_not_mix(server, tmp_path):
    addresses = [
        serve(server, f'/{path}', {'w': torch.tensor([float(i)])})
        for i, path in enumerate(
            ('a/w.safetensors', 'b/w.safetensors', 'a/w.safetensors?v=2', 'a%2Fb%20c/w.safetensors')
        )
    ]
    for _ in range(2):
        for i, address in enumerate(addresses):
            assert read_checkpoint(address)['state_dict']['w'] == i
    assert len(server.asked) == 4  # each once
    files = [path for path in (tmp_path / 'home').rglob('*') if path.is_file()]
    assert len(files) == 4 and all(path.name.endswith('w.safetensors') for path in files)


def test_models_load_from_addresses(server, small):
    address = serve(server, '/small.safetensors', small.state_dict())
    assert_same(effvit_mm.create_model('deit_tiny', None, checkpoint=address, **SMALL), small)
    backbone = VisionTransformer(**SMALL, init_cfg={'type': 'Pretrained', 'checkpoint': address})
    backbone.init_weights()
    assert torch.equal(backbone.norm.weight, small.backbone.norm.weight)
    assert server.asked == ['/small.safetensors']


def test_a_download_that_breaks_off_leaves_nothing(server, tmp_path):
    address = serve(server, '/w.safetensors', {'w': torch.zeros(1000)})
    content, announced = server.files['/w.safetensors']
    server.files['/w.safetensors'] = (content[:100], announced)
    with pytest.raises(CheckpointError, match='cannot be downloaded: cut short, 100 of'):
        read_checkpoint(address)
    assert not [path for path in (tmp_path / 'home').rglob('*') if path.is_file()]
    server.files['/w.safetensors'] = (content, announced)
    assert read_checkpoint(address)['state_dict']['w'].shape == (1000,)


@pytest.mark.parametrize(
    ('address', 'message'),
    [
        ('{server}/absent.pth', 'absent.pth cannot be downloaded: HTTP Error 404'),
        ('http://127.0.0.1:1/a.pth', 'a.pth cannot be downloaded'),
        ('s3://bucket/a.pth', r's3://bucket/a\.pth: files and http\(s\) addresses'),
        ('file:///etc/passwd', r'files and http\(s\) addresses'),
    ],
)
def test_addresses_that_cannot_be_read(server, address, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(address.format(server=server.address))


# Without OpenMMLab --------------------------------------------------------------------------------


def test_a_trainer_s_checkpoint_is_read_without_mmengine():
    """Its log history holds nothing there; the rest is as it is with mmengine."""
    code = (
        'import sys, types, torch\n'
        'for name in ("mmengine", "mmcv", "mmpretrain", "mmdet", "torchreid"):\n'
        '    sys.modules[name] = None\n'
        'package = sys.modules["effvit_mm"] = types.ModuleType("effvit_mm")\n'
        'package.__path__ = [sys.argv[1]]\n'
        'from effvit_mm.weights import load_checkpoint, read_checkpoint\n'
        'content = read_checkpoint(sys.argv[2])\n'
        'assert content["message_hub"]["runtime_info"]["epoch"] == 3\n'
        'head = torch.nn.ModuleDict({"fc": torch.nn.Linear(48, 5)})\n'
        'model = torch.nn.ModuleDict({"head": head})\n'
        'print(load_checkpoint(model, sys.argv[2], require="all"))\n'
    )
    package = Path(effvit_mm.__file__).parent
    file = DATA / 'old_checkpoints' / 'pslt_tiny.pth'
    done = subprocess.run(
        [sys.executable, '-c', code, str(package), str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'loaded 2 of 2 tensors from {file}')


# The tool -----------------------------------------------------------------------------------------


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


def test_converter_tool_cannot_export_other_attention(converter, tmp_path, capsys):
    torch.save(effvit_mm.create_model('castling_deit_tiny').state_dict(), tmp_path / 'a.pth')
    argv = [str(tmp_path / 'a.pth'), 'castling_deit_tiny', str(tmp_path / 'b.pth'), '--to', 'timm']
    assert converter.main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: castling_deit_tiny has LinearAngularAttention')
    assert err.count('\n') == 1 and not (tmp_path / 'b.pth').exists()
