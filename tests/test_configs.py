"""Every config file builds and holds its paper's recipe, and what mim reads about them is true."""

import re
from pathlib import Path
from typing import NamedTuple

import modelindex
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample

import effvit_mm
from effvit_mm.openmm.config.checks import check_config
from effvit_mm.openmm.config.data_root import spread_data_root
from effvit_mm.openmm.data_checks.class_count import close_heads
from effvit_mm.weights import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(p for p in (ROOT / 'configs').glob('*/*.py') if p.parent.name != '_base_')
CLASSIFIERS = [p for p in CONFIGS if 'Classifier' in str(Config.fromfile(p).get('model'))]
IN1K = [p for p in CLASSIFIERS if p.stem.endswith('_in1k')]
METAFILES = sorted((ROOT / 'configs').glob('*/metafile.yml'))


def name_of(path: Path) -> str:
    return f'{path.parent.name}/{path.stem}'


def load(name: str) -> Config:
    """A config by its folder and name, without the suffix."""
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def build(config: Config, device: str = 'cpu') -> torch.nn.Module:
    """The model of a config; on the device 'meta' it has shapes only, and costs nothing.

    Where the data set would say how many classes there are, ten.
    """
    close_heads(config.model, 10)
    parts = {key: config[key] for key in ('data_preprocessor',) if key in config}
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.device(device):
        return MODELS.build({**config.model, **parts})


@pytest.mark.parametrize('path', CONFIGS, ids=name_of)
def test_a_config_parses_and_has_all_it_needs(path):
    config = Config.fromfile(path)
    needed = {'model', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'optim_wrapper'}
    assert needed | {'train_cfg', 'val_cfg', 'test_cfg', 'default_hooks'} <= set(config)
    assert '/work/' not in config.pretty_text


@pytest.mark.parametrize('path', CONFIGS, ids=name_of)
def test_a_config_passes_the_checks_before_a_training(path):
    config = Config.fromfile(path)
    check_config(config, training=True)
    check_config(config, training=False)


@pytest.mark.parametrize('path', CLASSIFIERS, ids=name_of)
def test_a_classifier_builds_with_its_pipelines(path):
    config = Config.fromfile(path)
    classes = build(config, 'meta').head.num_classes
    assert classes == config.model.head.num_classes
    for split in ('train', 'val', 'test'):
        pipeline = config[f'{split}_dataloader'].dataset.pipeline
        assert len(Compose([TRANSFORMS.build(step) for step in pipeline]).transforms) >= 1


# --- ImageNet: the models of the table of names -----------------------------------------------


def model_name(path: Path) -> str:
    """``castling-deit-tiny_8xb128_in1k`` is a config of ``castling_deit_tiny``."""
    return path.stem.split('_')[0].replace('-', '_')


@pytest.mark.parametrize('path', IN1K, ids=name_of)
def test_weights_move_freely_between_imagenet_config_and_named_model(path):
    ours = build(Config.fromfile(path), 'meta').state_dict()
    with torch.device('meta'):
        named = effvit_mm.create_model(model_name(path)).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in named.items()}


def test_every_named_model_of_the_papers_has_an_imagenet_config():
    hosts = ('deit_', 'levit_', 'mvitv2_')  # with softmax attention: baselines
    wanted = {name for name in effvit_mm.list_models() if not name.startswith(hosts)}
    assert wanted - {model_name(path) for path in IN1K} == set()


@pytest.mark.parametrize(
    'path',
    [path for path in IN1K if re.search('-(tiny|128s|9-dagger)_[0-9]', path.stem)],
    ids=name_of,
)
def test_an_imagenet_config_computes_what_its_named_model_does(path):
    """What no state dict shows: attention and its options, pooling, norms."""
    torch.manual_seed(0)
    named = effvit_mm.create_model(model_name(path)).eval()
    model = build(Config.fromfile(path)).eval()
    model.load_state_dict(named.state_dict())
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(x, mode='tensor'), named(x))


# --- ImageNet: the recipes --------------------------------------------------------------------


class Recipe(NamedTuple):
    lr: float
    weight_decay: float
    epochs: int
    warmup: int
    first_lr: float
    last_lr: float
    average: bool = False
    repeats: int | None = 3
    clip: float | None = None
    policies: int = 2
    sizes: tuple[int, int] = (256, 224)


DEIT = Recipe(1e-3, 0.05, 300, 5, 1e-6, 1e-5)
LEVIT = Recipe(2e-3, 0.025, 1000, 5, 1e-6, 1e-5, average=True)
RECIPES = {
    'pslt/pslt-tiny_8xb128_in1k': Recipe(1e-3, 0.025, 300, 5, 1e-6, 1e-6, average=True),
    'crossvit/crossvit-tiny_32xb128_in1k': Recipe(
        4e-3, 0.05, 300, 30, 1e-6, 1e-5, sizes=(274, 240)
    ),
    'crossvit/crossvit-15-dagger-408_16xb32_in1k': Recipe(
        5e-6, 1e-8, 30, 5, 1e-6, 5e-6, sizes=(408, 408)
    ),
    'castling/deit-tiny_8xb128_in1k': DEIT,
    'castling/castling-deit-tiny_8xb128_in1k': DEIT,
    'castling/castling-deit-tiny_finetune_8xb128_in1k': Recipe(2.5e-4, 0.05, 100, 5, 2.5e-7, 1e-5),
    'castling/castling-levit-128s_8xb256_in1k': LEVIT,
    'castling/castling-levit-128s_finetune_8xb256_in1k': Recipe(
        5e-4, 0.025, 100, 5, 2.5e-7, 1e-5, average=True
    ),
    'castling/castling-mvitv2-tiny_16xb128_in1k': Recipe(
        2e-3, 0.05, 300, 70, 8e-8, 8e-6, repeats=None, clip=1.0, policies=6
    ),
    'lightweight_vit/lightweight-vit-tiny_8xb128_in1k': DEIT,
}


def step_of(pipeline: list, kind: str) -> dict:
    return next(step for step in pipeline if step['type'] == kind)


def hooks_of(config: Config) -> list[str]:
    return [hook['type'].rpartition('.')[2] for hook in config.get('custom_hooks', ())]


@pytest.mark.parametrize('name', RECIPES)
def test_an_imagenet_config_holds_its_recipe(name):
    config, recipe = load(name), RECIPES[name]
    optimizer, (warmup, *cosine) = config.optim_wrapper.optimizer, config.param_scheduler
    assert (optimizer.type, optimizer.weight_decay) == ('AdamW', recipe.weight_decay)
    assert optimizer.lr == pytest.approx(recipe.lr)
    assert (config.train_cfg.max_epochs, warmup.end) == (recipe.epochs, recipe.warmup)
    assert warmup.start_factor * optimizer.lr == pytest.approx(recipe.first_lr)
    last = cosine[0].eta_min if cosine else optimizer.lr
    assert last == pytest.approx(recipe.last_lr)
    assert all(part.begin == warmup.end for part in cosine)
    assert config.optim_wrapper.get('clip_grad', {}).get('max_norm') == recipe.clip
    assert hooks_of(config).count('EMAHook') == recipe.average
    for hook in config.get('custom_hooks', ()):
        assert hook['type'] != 'EMAHook' or hook['momentum'] == pytest.approx(4e-5)


@pytest.mark.parametrize('name', RECIPES)
def test_an_imagenet_config_augments_by_its_recipe(name):
    config, recipe = load(name), RECIPES[name]
    assert config.train_dataloader.sampler.get('num_repeats') == recipe.repeats
    pipeline = config.train_dataloader.dataset.pipeline
    augment = step_of(pipeline, 'RandAugment')
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    assert (augment.policies, augment.num_policies) == ('timm_increasing', recipe.policies)
    assert step_of(pipeline, 'RandomErasing').erase_prob == 0.25
    assert step_of(pipeline, 'RandomResizedCrop').scale == recipe.sizes[1]
    for split in ('val', 'test'):
        pipeline = config[f'{split}_dataloader'].dataset.pipeline
        sizes = step_of(pipeline, 'ResizeEdge').scale, step_of(pipeline, 'CenterCrop').crop_size
        assert sizes == recipe.sizes
    mixes = [(mix.type, mix.alpha) for mix in config.model.train_cfg.augments]
    assert mixes == [('Mixup', 0.8), ('CutMix', 1.0)]
    assert config.model.head.loss.label_smooth_val == 0.1


def family_of(path: Path) -> str:
    return re.sub(r'(?<=-)(tiny|small|base|large|\d+s?)(-dagger)?(?=[-_])', '*', path.stem, count=1)


@pytest.mark.parametrize('family', sorted({family_of(path) for path in IN1K}))
def test_variants_of_a_family_differ_in_the_model_alone(family):
    recipes = []
    for path in IN1K:
        if family_of(path) == family:
            config = dict(Config.fromfile(path))
            recipes.append({k: v for k, v in config.items() if k not in ('model', 'load_from')})
    assert all(recipe == recipes[0] for recipe in recipes)


@pytest.mark.parametrize('path', IN1K, ids=name_of)
def test_processes_and_batch_in_a_name_are_the_configs(path):
    processes, batch = map(int, re.search(r'_(\d+)xb(\d+)_', path.stem).groups())
    config = Config.fromfile(path)
    assert config.train_dataloader.batch_size == batch
    assert config.auto_scale_lr.base_batch_size == processes * batch


def test_stochastic_depth_is_as_published():
    rates = {
        name: largest_rate(load(name))
        for name in (
            'pslt/pslt-base_8xb128_in1k',
            'crossvit/crossvit-18_32xb128_in1k',
            'castling/castling-deit-base_8xb128_in1k',
            'castling/castling-levit-384_8xb256_in1k',
            'castling/castling-mvitv2-small_16xb128_in1k',
            'castling/castling-mvitv2-base_16xb128_in1k',
        )
    }
    assert list(rates.values()) == pytest.approx([0.2, 0.1, 0.1, 0.0, 0.1, 0.3])


def largest_rate(config: Config) -> float:
    """The largest rate of the built model."""
    modules = build(config, 'meta').modules()
    return max((m.p for m in modules if type(m).__name__ == 'StochasticDepth'), default=0.0)


# --- Castling ---------------------------------------------------------------------------------


@pytest.mark.parametrize('path', [p for p in CONFIGS if 'castling' in p.stem], ids=name_of)
def test_every_castling_config_watches_its_masked_softmax(path):
    config = Config.fromfile(path)
    assert config.model.backbone.attention.type == 'effvit_mm.LinearAngularAttention'
    masked = config.model.backbone.attention.get('masked_softmax', True)
    assert hooks_of(config).count('MaskedSoftmaxHook') == masked
    hook = config.custom_hooks[-1] if masked else {}
    assert hook.get('drop_epoch') is None or hook.drop_epoch < config.train_cfg.max_epochs


def test_levit_learns_from_the_teacher_of_its_paper():
    model = load('castling/castling-levit-256_8xb256_in1k').model
    assert (model.type, model.teacher.timm) == (
        'effvit_mm.DistilledClassifier',
        'regnety_160.deit_in1k',
    )
    assert model.distillation == {'mode': 'hard', 'weight': 0.5}


@pytest.mark.parametrize(
    'name, source, new',
    [
        ('castling/castling-deit-tiny_finetune_8xb128_in1k', 'deit_tiny', 'value_conv'),
        ('castling/castling-levit-128s_finetune_8xb256_in1k', 'levit_128s', 'value_conv'),
        ('crossvit/crossvit-15-dagger-408_16xb32_in1k', 'crossvit_15_dagger', None),
        ('crossvit/crossvit-18-dagger-408_16xb32_in1k', 'crossvit_18_dagger', None),
    ],
)
def test_fine_tuning_takes_all_weights_of_what_it_starts_from(name, source, new):
    config = load(name)
    assert source in config.load_from.replace('-', '_')
    state = effvit_mm.create_model(source).state_dict()
    report = load_checkpoint(build(config), state)
    assert (report.unexpected, report.mismatched) == ([], [])
    assert [key for key in report.missing if new is None or new not in key] == []
    assert any('head' in key for key in report.loaded)


# --- A step of training -----------------------------------------------------------------------

CHEAP = [name for name in RECIPES if '408' not in name and 'finetune' not in name]


def without_teacher(config: Config) -> Config:
    if 'teacher' in config.model:
        config.model.teacher = {'model': 'levit_128s', 'untrained': True}
    return config


def fake_batch(config: Config, images: int = 2) -> dict:
    size = step_of(config.train_dataloader.dataset.pipeline, 'RandomResizedCrop').scale
    inputs = [torch.randint(256, (3, size, size), dtype=torch.uint8) for _ in range(images)]
    samples = [DataSample().set_gt_label(7 * i) for i in range(images)]
    return {'inputs': inputs, 'data_samples': samples}


@pytest.mark.parametrize('name', CHEAP)
def test_a_step_of_an_imagenet_training_reaches_every_parameter(name):
    """No parameter may be without a gradient: DDP refuses it."""
    torch.manual_seed(0)
    config = without_teacher(load(name))
    model = build(config).train()
    batch = model.data_preprocessor(fake_batch(config), training=True)
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    wrapper.step()
    assert any(not torch.equal(p, before[key]) for key, p in model.named_parameters())


@pytest.mark.parametrize('name', CHEAP)
def test_positions_tokens_norms_and_biases_do_not_decay(name):
    config = without_teacher(load(name))
    model = build(config)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    decay = {
        id(p): group['weight_decay'] for group in wrapper.param_groups for p in group['params']
    }
    spared = ('cls_token', 'dist_token', 'pos_embed', 'rel_pos_', 'relative_position_bias')
    for key, p in model.named_parameters():
        none = p.ndim == 1 or any(part in key for part in spared)
        assert decay[id(p)] == (0.0 if none else config.optim_wrapper.optimizer.weight_decay), key


# --- Where data are ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    'config, variable',
    [
        ('pslt-tiny_8xb128_in1k', 'IMAGENET_ROOT'),
        ('pslt-tiny_digits', 'DIGITS_ROOT'),
        ('pslt-tiny_fashion-mnist', 'FASHION_MNIST_ROOT'),
        ('pslt-tiny_folder', 'IMAGE_FOLDER_ROOT'),
    ],
)
def test_data_are_found_through_the_environment_or_an_option(monkeypatch, config, variable):
    path = ROOT / 'configs' / 'pslt' / f'{config}.py'

    def roots(cfg) -> set[str]:
        return {cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')}

    monkeypatch.delenv(variable, raising=False)
    assert all(root.startswith('data/') for root in roots(Config.fromfile(path)))
    monkeypatch.setenv(variable, '/elsewhere')
    cfg = Config.fromfile(path)
    assert roots(cfg) == {'/elsewhere'}
    cfg.merge_from_dict({'data_root': '/option', 'val_dataloader.dataset.data_root': '/own'})
    spread_data_root(cfg, '/elsewhere')
    assert roots(cfg) == {'/option', '/own'}


def test_a_changed_data_root_reaches_wrapped_data_sets():
    part = {'type': 'A', 'data_root': 'old'}
    cfg = {
        'data_root': 'new',
        'train_dataloader': {
            'dataset': {
                'type': 'Repeat',
                'dataset': {'type': 'Concat', 'datasets': [part, dict(part)]},
            }
        },
    }
    spread_data_root(cfg, 'old')
    parts = cfg['train_dataloader']['dataset']['dataset']['datasets']
    assert [p['data_root'] for p in parts] == ['new', 'new']


# --- what mim reads ---------------------------------------------------------------------------


def models_of(metafile: Path) -> list[dict]:
    return yaml.safe_load(metafile.read_text())['Models']


def test_the_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert sorted(index['Import']) == [str(p.relative_to(ROOT)) for p in METAFILES]


@pytest.mark.parametrize('metafile', METAFILES, ids=lambda p: p.parent.name)
def test_a_metafile_names_things_that_exist(metafile):
    content = yaml.safe_load(metafile.read_text())
    collections = {c['Name'] for c in content['Collections']}
    for collection in content['Collections']:
        assert (ROOT / collection['README']).is_file()
        assert (ROOT / collection['Code']['URL']).is_file()
        assert collection['Code']['Version'] == f'v{effvit_mm.__version__}'
    for model in content['Models']:
        assert model['In Collection'] in collections
        assert (ROOT / model['Config']).is_file()
        assert Path(model['Config']).stem == model['Name']


@pytest.mark.parametrize('metafile', METAFILES, ids=lambda p: p.parent.name)
def test_every_config_stands_in_its_metafile_and_readme(metafile):
    listed = {model['Name'] for model in models_of(metafile)}
    files = {path.stem for path in metafile.parent.glob('*.py')}
    assert listed == files
    readme = (metafile.parent / 'README.md').read_text()
    assert [name for name in files if f'{name}.py' not in readme] == []


@pytest.mark.parametrize(
    'model', [m for f in METAFILES for m in models_of(f)], ids=lambda m: m['Name']
)
def test_the_parameters_in_a_metafile_are_the_models(model):
    built = build(Config.fromfile(ROOT / model['Config']), 'meta')
    assert sum(p.numel() for p in built.parameters()) == model['Metadata']['Parameters']


def test_the_index_parses_with_openmmlabs_parser():
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert {model.name for model in index.models} >= {'pslt-tiny_digits', 'pslt-base_8xb128_in1k'}
