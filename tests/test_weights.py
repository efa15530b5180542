"""Names of published weights, and loads that say what they did."""

from pathlib import Path

import pytest
import timm
import torch
from mmengine.logging import MMLogger
from remedies import tries
from safetensors.torch import save_file
from weight_files import (
    DATA,
    OTHER_ATTENTION,
    SMALL,
    TIMM,
    assert_same,
    published_weights,
    randomise,
    small_network,
)

import effvit_mm
from effvit_mm.errors import CheckpointError, ConfigError, UserError
from effvit_mm.openmm.backbones import PSLT, VisionTransformer
from effvit_mm.weights import get_state_dict, load_checkpoint


@pytest.fixture(scope='module')
def published():
    return published_weights()


@pytest.fixture(scope='module')
def small():
    return small_network()


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
    with pytest.raises(ConfigError, match="no model 'pslt_huge'; did you mean 'pslt_large'"):
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
    with pytest.raises(UserError, match=message):
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


@tries(", or give the file's num_classes")
def test_create_model_says_what_stays_random(published, tmp_path, caplog):
    path = tmp_path / 'weights.safetensors'
    save_file(effvit_mm.convert_state_dict(published, 'pslt_tiny'), path)
    with caplog.at_level('INFO', 'effvit_mm'):
        effvit_mm.create_model('pslt_tiny', checkpoint=path)
        effvit_mm.create_model('pslt_tiny', num_classes=4, checkpoint=path)
    whole, partial = caplog.records
    assert 'random' not in whole.getMessage() and whole.levelname == 'INFO'
    assert partial.levelname == 'WARNING' and '2 of another shape: head.fc' in partial.getMessage()
    assert partial.getMessage().endswith(
        "; what was not loaded is random, to be trained, or give the file's num_classes"
    )


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
    state = {'0.weight': torch.ones(3, 2), '0.bias': torch.ones(3)}
    state |= {'1.weight': torch.ones(5, 3), 'x': torch.ones(1)}
    report = load_checkpoint(model, state, source='file.pth')
    assert str(report) == (
        'loaded 2 of 4 tensors from file.pth; 1 not in the file: 1.bias; '
        '1 of another shape: 1.weight (5, 3) instead of (4, 3); '
        '1 in the file but not in the model: x'
    )
    assert torch.equal(model[0].weight, torch.ones(3, 2))
    with pytest.raises(CheckpointError, match='loaded 2 of 4'):
        load_checkpoint(model, state, require='exact')


@pytest.mark.parametrize(
    ('name', 'other'),
    [('pslt_tiny', 'deit_tiny'), ('deit_small', 'mvitv2_tiny'), ('levit_128', 'levit_192')],
)
def test_a_few_tensors_that_fit_make_no_model(name, other, tmp_path):
    """The head's bias and some norms fit by chance: the rest would stay random."""
    file = tmp_path / 'epoch_3.pth'
    torch.save(effvit_mm.create_model(name, num_classes=4).state_dict(), file)
    message = r'^a checkpoint of another model: loaded \d+ of \d+ tensors from .*epoch_3\.pth; '
    with pytest.raises(CheckpointError, match=message):
        effvit_mm.create_model(other, num_classes=4, checkpoint=file)


def test_parts_of_models_load_into_each_other():
    """A detector's backbone into a classifier, a classifier's into a detector: half of one fits."""

    def network(**layers):
        parts = {k: [torch.nn.Linear(1, 1) for _ in range(n)] for k, n in layers.items()}
        return torch.nn.ModuleDict({k: torch.nn.Sequential(*v) for k, v in parts.items()})

    classifier, detector = network(backbone=4, head=1), network(backbone=4, neck=9, bbox_head=9)
    for one, other in ((classifier, detector), (detector, classifier)):
        assert len(load_checkpoint(one, other.state_dict()).loaded) == 8


# Names on both sides ------------------------------------------------------------------------------


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


# Without OpenMMLab --------------------------------------------------------------------------------


def test_a_trainer_s_checkpoint_is_read_without_mmengine(pythons):
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
    done = pythons.run('-c', code, package, file)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'loaded 2 of 2 tensors from {file}')
