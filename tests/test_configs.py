"""Every config file builds, and what mim reads about them is true."""

from pathlib import Path

import modelindex
import pytest
import yaml
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS, TRANSFORMS

import effvit_mm
from effvit_mm.engine.data_root import spread_data_root

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(p for p in (ROOT / 'configs').glob('*/*.py') if p.parent.name != '_base_')
CLASSIFIERS = [p for p in CONFIGS if 'ImageClassifier' in str(Config.fromfile(p).get('model'))]
METAFILES = sorted((ROOT / 'configs').glob('*/metafile.yml'))
PUBLISHED_PARAMETERS = {'tiny': 4_298_988, 'base': 9_257_302, 'large': 16_099_312}
PSLT_IN1K = {name: f'configs/pslt/pslt-{name}_8xb128_in1k.py' for name in PUBLISHED_PARAMETERS}


def name_of(path: Path) -> str:
    return f'{path.parent.name}/{path.stem}'


@pytest.mark.parametrize('path', CONFIGS, ids=name_of)
def test_a_config_parses_and_has_all_it_needs(path):
    config = Config.fromfile(path)
    needed = {'model', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'optim_wrapper'}
    assert needed | {'train_cfg', 'val_cfg', 'test_cfg', 'default_hooks'} <= set(config)
    assert '/work/' not in config.pretty_text


@pytest.mark.parametrize('path', CLASSIFIERS, ids=name_of)
def test_a_classifier_builds_with_its_pipelines(path):
    config = Config.fromfile(path)
    init_default_scope(config.default_scope)
    model = MODELS.build({**config.model, 'data_preprocessor': config.data_preprocessor})
    assert model.head.fc.out_features == config.model.head.num_classes
    for split in ('train', 'val', 'test'):
        pipeline = config[f'{split}_dataloader'].dataset.pipeline
        assert len(Compose([TRANSFORMS.build(step) for step in pipeline]).transforms) >= 2


@pytest.mark.parametrize('name', PUBLISHED_PARAMETERS)
def test_imagenet_configs_have_the_published_number_of_parameters(name):
    init_default_scope('mmpretrain')
    model = MODELS.build(Config.fromfile(ROOT / PSLT_IN1K[name]).model)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED_PARAMETERS[name]


@pytest.mark.parametrize('name', PUBLISHED_PARAMETERS)
def test_imagenet_configs_hold_the_papers_recipe(name):
    config = Config.fromfile(ROOT / PSLT_IN1K[name])
    optimizer = config.optim_wrapper.optimizer
    images = 8 * config.train_dataloader.batch_size
    assert (optimizer.type, optimizer.weight_decay) == ('AdamW', 0.025)
    assert optimizer.lr == pytest.approx(5e-4 * images / 512)
    assert config.auto_scale_lr.base_batch_size == images
    warmup, cosine = config.param_scheduler
    assert (warmup.end, cosine.begin, config.train_cfg.max_epochs) == (5, 5, 300)
    assert warmup.start_factor * optimizer.lr == pytest.approx(1e-6)
    assert cosine.eta_min == 1e-6
    assert config.custom_hooks[0].momentum == pytest.approx(4e-5)
    assert config.train_dataloader.sampler.type == 'RepeatAugSampler'
    assert [(a.type, a.alpha) for a in config.model.train_cfg.augments] == [
        ('Mixup', 0.8),
        ('CutMix', 1.0),
    ]
    assert config.model.head.loss.label_smooth_val == 0.1
    assert 'clip_grad' not in config.optim_wrapper


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
    config = Config.fromfile(ROOT / model['Config'])
    init_default_scope('mmpretrain')
    built = MODELS.build(config.model)
    assert sum(p.numel() for p in built.parameters()) == model['Metadata']['Parameters']


def test_the_index_parses_with_openmmlabs_parser():
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert {model.name for model in index.models} >= {'pslt-tiny_digits', 'pslt-base_8xb128_in1k'}
