"""Our networks in timm's registry: the same networks, with the methods that timm's users call."""

from __future__ import annotations

import copy
import runpy
import sys
from pathlib import Path

import pytest
import timm
import torch
from coco_sets import make_config
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from networks import images, randomise_norms, tensors
from remedies import tries
from timm.data import resolve_model_data_config
from timm.models import group_parameters, load_checkpoint, save_for_hf
from timm.optim import create_optimizer_v2
from timm.utils import reparameterize_model
from trainer import forget_runs

import effvit_mm
from effvit_mm.errors import ConfigError, UserError
from effvit_mm.openmm import cli
from effvit_mm.weights.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
NAMES = effvit_mm.register_timm()
# One of each kind; 64 pixels are enough for all.
SMALL = ('pslt_tiny', 'crossvit_9', 'crossvit_9_dagger', 'levit_128s', 'castling_mvitv2_tiny',
         'deit_tiny_distilled', 'castling_deit_tiny', 'lightweight_vit_tiny')  # fmt: skip


def create(name, **kwargs):
    torch.manual_seed(0)
    return timm.create_model(NAMES[name], **kwargs)


def ours(name, **kwargs):
    torch.manual_seed(0)
    return effvit_mm.create_model(name, **kwargs)


def assert_same(got, want):
    assert len(tensors(got)) == len(tensors(want))
    assert all(torch.equal(a, b) for a, b in zip(tensors(got), tensors(want), strict=True))


def test_every_network_is_there_and_none_of_timms_is_replaced():
    theirs = {name for name in effvit_mm.list_models() if name != NAMES[name]}
    assert set(NAMES) == set(effvit_mm.list_models())
    assert {'levit_128s', 'mvitv2_tiny', 'crossvit_15_dagger_408'} <= theirs
    for name in theirs:
        assert NAMES[name] == f'effvit_mm_{name}'
        assert timm.models.model_entrypoint(name).__module__.startswith('timm.models.')
    assert effvit_mm.register_timm() == NAMES
    assert set(NAMES.values()) <= set(timm.list_models())
    assert not set(NAMES.values()) & set(timm.list_pretrained())


@pytest.mark.parametrize('name', NAMES)
def test_published_size(name):
    """What timm reads of a network, without its weights: their memory is never touched."""
    with torch.device('meta'):
        model = create(name, num_classes=7)
        maps = effvit_mm.create_model(name, features_only=True)
        features = create(name, features_only=True)
    cfg, state = model.default_cfg, model.state_dict()
    assert cfg is model.pretrained_cfg and cfg['architecture'] == NAMES[name]
    for key in ('first_conv', 'classifier'):
        names = [cfg[key]] if isinstance(cfg[key], str) else cfg[key]
        assert all(f'{part}.weight' in state for part in names)
    classifiers = [cfg['classifier']] if isinstance(cfg['classifier'], str) else cfg['classifier']
    assert {state[f'{part}.weight'].shape[0] for part in classifiers} == {7}
    assert tuple(features.feature_info.channels()) == maps.out_channels
    assert tuple(features.feature_info.reduction()) == maps.out_strides
    names = {n for n, p in model.get_classifier().named_parameters()}
    assert names == {n[5:] for n, _ in model.named_parameters() if n.startswith('head.')}
    model.reset_classifier(3)
    assert model.num_classes == 3
    shapes = {model.state_dict()[f'{part}.weight'].shape[0] for part in classifiers}
    assert shapes == {3}
    model.reset_classifier(0)
    assert not list(model.get_classifier().parameters())


@pytest.mark.parametrize('name', SMALL)
def test_equal_to_our_own(name):
    x = images(64, 96, batch=1)
    with torch.no_grad():
        model = randomise_norms(create(name, num_classes=5)).eval()
        want = randomise_norms(ours(name, num_classes=5)).eval()
        assert_same(model(x), want(x))
        features = model.forward_features(x)
        assert_same(features, want.forward_features(x))
        assert torch.equal(model.forward_head(features), model(x))
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (1, model.num_features) == (1, model.head_hidden_size)
        final, maps = model.forward_intermediates(x)
        assert_same(final, features)
        normed = model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
        model.reset_classifier(0)
        assert torch.equal(model(x), pooled)
        model.reset_classifier(0, '')
        assert torch.equal(model(x), normed[0])
        extractor = randomise_norms(create(name, features_only=True)).eval()
        own = randomise_norms(ours(name, features_only=True)).eval()
        got = extractor(x)
        assert isinstance(got, list)
        assert_same(got, own(x))
        # The classifier's weights, by the methods for either.
        extractor.load_state_dict(model.state_dict())
        assert_same(extractor(x), maps)


@pytest.mark.parametrize('name', ['pslt_tiny', 'levit_128s', 'castling_deit_tiny'])
def test_chosen_maps(name):
    x = images(64, 64)
    with torch.no_grad():
        model = create(name, num_classes=2).eval()
        _, maps = model.forward_intermediates(x)
        for indices, want in ((2, maps[2:]), ((0, -2), [maps[0], maps[2]]), ([1], [maps[1]])):
            _, got = model.forward_intermediates(x, indices=indices)
            assert_same(got, want)
            for early in (False, True):
                got = model.forward_intermediates(
                    x, indices=indices, stop_early=early, intermediates_only=True
                )
                assert_same(got, want)
            extractor = create(name, features_only=True, out_indices=indices).eval()
            extractor.load_state_dict(model.state_dict())
            assert_same(extractor(x), want)
            assert extractor.feature_info.channels() == [m.shape[1] for m in want]


def test_batch_norms_see_a_batch_once_and_the_model_stays_as_it_is():
    x = images(64, 64)
    models = [create('pslt_tiny', num_classes=2).train() for _ in range(2)]
    for model in models:
        torch.manual_seed(1)
        (model.forward_features if model is models[0] else model.forward_intermediates)(x)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert all(p.requires_grad for p in copy.deepcopy(models[1]).parameters())


@pytest.mark.parametrize('name', ['pslt_tiny', 'effvit_mm_levit_128s', 'castling_deit_tiny'])
def test_gradient_checkpointing_and_dropout(name):
    x, gradients = images(64, 64), []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=3, drop_rate=0.5, drop_path_rate=0.3).train()
        model.set_grad_checkpointing(enabled)
        assert model.grad_checkpointing is enabled
        torch.manual_seed(2)
        model(x).square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    assert all(grad is not None for grad in gradients[0].values())
    for key, grad in gradients[0].items():
        assert torch.allclose(grad, gradients[1][key], rtol=1e-3, atol=1e-5), key
    pooled = [model.forward_head(model.forward_features(x), pre_logits=True) for _ in range(2)]
    assert ((pooled[0] == 0).float().mean() - 0.5).abs() < 0.2


@pytest.mark.parametrize('name', ['pslt_tiny', 'crossvit_9', 'levit_128s', 'castling_mvitv2_tiny',
                                  'deit_tiny_distilled'])  # fmt: skip
def test_weight_decay_and_layer_decay_are_those_of_our_recipes(name):
    with torch.device('meta'):
        model = create(name, num_classes=3)
    timms = create_optimizer_v2(model, opt='adamw', lr=1.0, weight_decay=0.05, layer_decay=0.5)
    paramwise = Config.fromfile(
        ROOT / 'configs/_base_/schedules/adamw_20e.py'
    ).optim_wrapper.paramwise_cfg
    wrapper = build_optim_wrapper(
        model,
        {
            'type': 'OptimWrapper',
            'constructor': 'effvit_mm.LayerDecayOptimWrapperConstructor',
            'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.05},
            'paramwise_cfg': {**paramwise, 'layer_decay_rate': 0.5},
        },
    )
    names = {parameter: n for n, parameter in model.named_parameters()}

    def settings(groups):
        return {
            names[p]: (g['weight_decay'], round(g['lr'] * g.get('lr_scale', 1.0), 12))
            for g in groups
            for p in g['params']
        }

    got, want = settings(timms.param_groups), settings(wrapper.optimizer.param_groups)
    assert got == want
    layers = group_parameters(model, model.group_matcher(coarse=True))
    assert 3 < len(layers) <= 2 + len(model.backbone.stages)


@pytest.mark.parametrize('name', [n for n in NAMES if n.startswith(('pslt', 'crossvit'))])
def test_images_are_prepared_as_in_our_configs(name):
    """timm's transform for validation has the sizes of the config's test pipeline."""
    files = list(ROOT.glob(f'configs/*/{name.replace("_", "-")}_*in1k.py'))
    assert len(files) == 1
    cfg = Config.fromfile(files[0])
    resize, crop = cfg.test_pipeline[1], cfg.test_pipeline[2]
    with torch.device('meta'):
        data = resolve_model_data_config(create(name))
    assert data['input_size'][1:] == (crop.crop_size,) * 2
    assert int(data['input_size'][1] / data['crop_pct']) == resize.scale
    assert data['interpolation'] == resize.interpolation
    for key in ('mean', 'std'):
        assert [255 * v for v in data[key]] == pytest.approx(cfg.data_preprocessor[key])


def training_checkpoint(path, state):
    """As mmengine writes one: weights beside the training's log."""
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer([1.0], [1])
    torch.save({'state_dict': state, 'message_hub': {'log_scalars': {'loss': history}}}, path)


@tries(
    "Give pretrained=False to start from noise, checkpoint_path='FILE', or pretrained=True with "
    "pretrained_cfg_overlay=dict(file='FILE')"
)
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_checkpoints(tmp_path, suffix):
    x, file = images(64, 64), tmp_path / f'weights{suffix}'
    state = randomise_norms(ours('pslt_tiny', num_classes=5)).state_dict()
    if suffix == '.pth':
        training_checkpoint(file, state)
    else:
        from safetensors.torch import save_file

        save_file(state, file)
    with pytest.raises(ConfigError, match=r'pretrained=True: .* Give pretrained=False to start'):
        timm.create_model('pslt_tiny', num_classes=5, pretrained=True)
    noise = timm.create_model('pslt_tiny', num_classes=5, pretrained=False).state_dict()
    assert noise.keys() == state.keys()
    model = timm.create_model('pslt_tiny', num_classes=5, checkpoint_path=str(file))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    extractor = timm.create_model('pslt_tiny', features_only=True, checkpoint_path=str(file)).eval()
    overlay = {'pretrained': True, 'pretrained_cfg_overlay': {'file': str(file)}}
    other = timm.create_model('pslt_tiny', num_classes=3, **overlay).eval()
    assert other.head.fc.weight.shape[0] == other.num_classes == 3
    with torch.no_grad():
        want = model.eval().forward_intermediates(x, intermediates_only=True)
        assert_same(extractor(x), want)
        assert_same(other.forward_intermediates(x, intermediates_only=True), want)
        assert_same(timm.create_model('pslt_tiny', features_only=True, **overlay).eval()(x), want)


def test_published_names_enter_by_the_overlay(tmp_path):
    theirs = randomise_norms(timm.create_model('levit_128s', num_classes=4)).eval()
    torch.save(theirs.state_dict(), tmp_path / 'levit.pth')
    overlay = {'file': str(tmp_path / 'levit.pth')}
    model = create('levit_128s', num_classes=4, pretrained=True, pretrained_cfg_overlay=overlay)
    x = images(224, 224, batch=1)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), theirs(x), atol=1e-4)


def test_timms_own_folder_of_a_model(tmp_path):
    model = randomise_norms(create('pslt_tiny', num_classes=4)).eval()
    save_for_hf(model, tmp_path / 'model')
    again = timm.create_model(f'local-dir:{tmp_path / "model"}', pretrained=True).eval()
    x = images(64, 64)
    with torch.no_grad():
        assert again.num_classes == 4
        assert_same(again(x), model(x))


def test_timms_reparametrisation_is_the_deployed_form():
    x = images(64, 64)
    model = randomise_norms(create('castling_levit_128s', num_classes=4)).eval()
    with torch.no_grad():
        want = model(x)
        deployed = reparameterize_model(model)
        assert deployed.backbone.deployed
        assert torch.allclose(deployed(x), want, atol=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'pretrained': True}, 'pretrained=True: there are no weights of pslt_tiny to download'),
        ({'in_chans': 1}, 'in_chans=1: pslt_tiny takes images of 3 channels'),
        ({'img_size': 64}, 'img_size=64: pslt_tiny has no such argument; it has'),
        ({'drop_path_rate': 1.5}, 'drop_path_rate=1.5: a number in'),
        ({'drop_rate': 1}, 'drop_rate=1: a number in'),
        ({'global_pool': 'max'}, "global_pool='max': this network has 'avg' and ''"),
        ({'global_pool': ''}, "num_classes=1000: 0 or more is needed, and with them global_pool='"),
        ({'num_classes': -1}, 'num_classes=-1'),
        ({'out_indices': 1}, 'out_indices=1 goes with features_only=True'),
        ({'features_only': True, 'out_indices': (2, 1)}, 'out_indices=(2, 1): indices must ascend'),
        ({'features_only': True, 'out_indices': 5}, 'indices=5: the last 1 to 4 maps'),
        ({'features_only': True, 'in_chans': 4}, 'in_chans=4'),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments, message):
    with pytest.raises(ValueError) as error:
        timm.create_model('pslt_tiny', **arguments)
    assert str(error.value).startswith(message) and '\n' not in str(error.value)


@pytest.mark.filterwarnings("ignore:'effvit_mm.timm' found in sys.modules")
def test_scripts_run_unchanged(tmp_path, monkeypatch):
    """As timm's train.py and validate.py go: names, loop, checkpoint and its reading again."""
    script = tmp_path / 'train.py'
    script.write_text(
        'import sys, timm, timm.optim, timm.utils, torch\n'
        "model = timm.create_model('pslt_tiny', num_classes=2, drop_path_rate=0.1)\n"
        "optimizer = timm.optim.create_optimizer_v2(model, opt='adamw', layer_decay=0.7)\n"
        'loss = torch.nn.functional.cross_entropy(model(torch.rand(2, 3, 32, 32)), '
        'torch.tensor([0, 1]))\n'
        'loss.backward(); optimizer.step()\n'
        'saver = timm.utils.CheckpointSaver(model, optimizer, checkpoint_dir=sys.argv[1])\n'
        'saver.save_checkpoint(0, 1.0)\n'
    )
    monkeypatch.setattr(sys, 'path', [*sys.path])
    monkeypatch.setattr(sys, 'argv', ['timm.py', str(script), str(tmp_path)])
    runpy.run_module('effvit_mm.timm', run_name='__main__')  # python -m, without another start
    (written,) = tmp_path.glob('checkpoint-0*')
    model = timm.create_model('pslt_tiny', num_classes=2)
    load_checkpoint(model, str(written))
    assert torch.equal(
        model.state_dict()['head.fc.weight'],
        read_checkpoint(written, trust=True)['state_dict']['head.fc.weight'],
    )
    from effvit_mm.timm import run_script

    with pytest.raises(UserError, match='no such script'):
        run_script('nothing.py', [])


WITH_TIMM = """
custom_imports = dict(imports=['effvit_mm.timm'])
model.update(
    backbone=dict(
        _delete_=True, type='mmpretrain.TIMMBackbone', model_name='pslt_tiny',
        features_only=True, out_indices=(1, 2, 3), drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[96, 192, 384]),
)
"""


def test_detector_with_mmpretrains_wrapper(tmp_path, monkeypatch):
    """mmdet takes timm's networks by mmpretrain's TIMMBackbone: trained and validated."""
    pytest.importorskip('mmdet')
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    forget_runs()
    config = make_config(tmp_path, WITH_TIMM)
    small = ['save_optimizer=False', 'save_best=None']
    small = [f'default_hooks.checkpoint.{option}' for option in small]
    assert cli.train([str(config), '--work-dir', 'work', '--cfg-options', *small]) == 0
    trained = read_checkpoint(tmp_path / 'work' / 'epoch_1.pth', trust=True)
    state = {
        name.removeprefix('backbone.timm_model.'): value
        for name, value in trained['state_dict'].items()
        if name.startswith('backbone.timm_model.')
    }
    model = timm.create_model('pslt_tiny', features_only=True, out_indices=(1, 2, 3))
    before = model.state_dict()
    assert trained['meta']['iter'] == 5 and state.keys() == before.keys()
    model.load_state_dict(state)
