"""The configs of re-identification hold the recipes that they promise."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample

from effvit_mm.openmm.config.data_root import spread_data_root

ROOT = Path(__file__).resolve().parents[1] / 'configs'
CONFIGS = {path.stem: path for path in sorted(ROOT.glob('*/reid_*.py'))}
WALKERS = [name for name in CONFIGS if name.endswith(('_walkers', '_walker-scenes'))]
WARD = [name for name in CONFIGS if name.endswith('_ward')]
REAL = [name for name in CONFIGS if name not in (*WALKERS, *WARD)]
# What stands behind a name's data set: source of training and test, and the test's options.
SETS = {
    'market1501': ('market1501', 'market1501', {}),
    'dukemtmc': ('dukemtmcreid', 'dukemtmcreid', {}),
    'cuhk03': ('cuhk03', 'cuhk03', {'cuhk03_labeled': False}),
    'cuhk03-classic': (
        'cuhk03',
        'cuhk03',
        {'cuhk03_labeled': False, 'cuhk03_classic_split': True, 'split_id': 0},
    ),
    'msmt17-v1': ('msmt17', 'msmt17', {'version': 'V1'}),
    'msmt17-v2': ('msmt17', 'msmt17', {'version': 'V2'}),
    'folder': ('folder', 'folder', {}),
    'walkers': ('walkers', 'walkers', {}),
    'walker-scenes': ('walker_scenes', 'walker_scenes', {}),
    'ward': ('folder', 'folder', {}),
    'market1501-to-dukemtmc': ('market1501', 'dukemtmcreid', {}),
    'market1501-msmt17': (('market1501', 'msmt17'), 'market1501', {}),
}
MINI = {'embed_dims': 12, 'depths': (2, 2, 4, 2), 'num_heads': (4, 8)}
ARCHS = {
    'pslt-tiny': ('effvit_mm.PSLT', 'tiny', None),
    'pslt-base': ('effvit_mm.PSLT', 'base', None),
    'pslt-mini': ('effvit_mm.PSLT', MINI, None),
    'crossvit-tiny': ('effvit_mm.CrossViT', 'tiny', None),
    'castling-levit-128s': ('effvit_mm.LeViT', '128s', 'effvit_mm.LinearAngularAttention'),
    'castling-deit-tiny': (
        'effvit_mm.VisionTransformer',
        'tiny',
        'effvit_mm.LinearAngularAttention',
    ),
    'lightweight-vit-tiny': ('effvit_mm.VisionTransformer', 'tiny', 'effvit_mm.EAttention'),
}


def load(name):
    return Config.fromfile(CONFIGS[name])


def step_of(pipeline, kind):
    return next((step for step in pipeline if step['type'] == kind), None)


def build(config, device='cpu'):
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.device(device):
        return MODELS.build(config.model)


def test_all_promised_configs_are_there():
    sets = (
        'market1501',
        'dukemtmc',
        'cuhk03',
        'cuhk03-classic',
        'msmt17-v1',
        'msmt17-v2',
        'folder',
    )
    families = ('pslt-tiny', 'pslt-base', 'crossvit-tiny', 'castling-levit-128s')
    wanted = {f'reid_{m}_{s}' for m in (*families, 'lightweight-vit-tiny') for s in sets}
    own = [model for model in ARCHS if model not in ('pslt-base', 'pslt-mini')]
    wanted |= {f'reid_{m}_{s}' for m in own for s in ('walkers', 'ward')}
    wanted |= {'reid_osnet-x0-25_ward', 'reid_osnet-x1-0_ward', 'reid_pslt-mini_walker-scenes'}
    assert wanted - set(CONFIGS) == set()


@pytest.mark.parametrize('name', CONFIGS)
def test_a_name_tells_model_and_data(name):
    config, (_, model, data) = load(name), name.split('_')
    backbone = config.model.backbone
    if model.startswith('osnet'):
        assert backbone.name == model.replace('osnet-', 'osnet_').replace('-', '_')
    else:
        kind, arch, attention = ARCHS[model]
        found = (backbone.type, backbone.arch, backbone.get('attention', {}).get('type'))
        assert found == (kind, arch, attention)
    trained, tested, options = SETS[data]
    dataset = config.train_dataloader.dataset
    sources = tuple(part.source for part in dataset.get('datasets', [dataset]))
    assert sources == (trained if isinstance(trained, tuple) else (trained,))
    assert config.test_dataloader == config.val_dataloader
    assert config.test_dataloader.dataset.source == tested
    for loader in (config.train_dataloader, config.test_dataloader):
        assert dict(loader.dataset.get('source_args', {})) == options
    assert config.test_evaluator.get('cuhk03', False) == (data == 'cuhk03-classic')


@pytest.mark.parametrize('name', CONFIGS)
def test_a_batch_is_of_persons_and_sizes_are_the_same_everywhere(name):
    config = load(name)
    loader = config.train_dataloader
    persons, images = loader.sampler.num_persons, loader.sampler.num_instances
    large = name in REAL or name == 'reid_pslt-mini_walker-scenes'
    assert (persons, images) == ((16, 4) if large else (8, 4))
    assert loader.batch_size == persons * images
    dataset = loader.dataset.get('datasets', [loader.dataset])[0]
    width, height = step_of(dataset.pipeline, 'Resize').scale
    assert tuple(step_of(dataset.pipeline, 'RandomCrop').crop_size) == (height, width)
    assert step_of(config.test_dataloader.dataset.pipeline, 'Resize').scale == (width, height)
    sizes = [(128, 64), (112, 56)]
    expected = {'walkers': sizes, 'walker-scenes': sizes, 'ward': [(160, 80)]}
    assert (height, width) in expected.get(name.split('_')[-1], [(256, 128)])
    for pipeline in (dataset.pipeline, config.test_dataloader.dataset.pipeline):
        needed = {'img_path', 'pid', 'camid', 'subset', 'sample_idx'}
        assert needed <= set(step_of(pipeline, 'PackInputs').meta_keys)
        with DefaultScope.overwrite_default_scope('mmpretrain'):  # whatever ran before
            Compose([TRANSFORMS.build(step) for step in pipeline])


@pytest.mark.parametrize('name', REAL)
def test_real_sets_are_trained_by_the_strong_baseline(name):
    config = load(name)
    dataset = config.train_dataloader.dataset
    pipeline = dataset.get('datasets', [dataset])[0].pipeline
    assert step_of(pipeline, 'RandomFlip').prob == 0.5
    assert step_of(pipeline, 'RandomCrop').padding == 10
    assert step_of(pipeline, 'RandomErasing').erase_prob == 0.5
    assert config.model.classifier.label_smoothing == 0.1
    assert config.model.metric_loss.margin == 0.3
    warmup, cosine = config.param_scheduler
    assert (config.train_cfg.max_epochs, warmup.end, cosine.begin) == (120, 10, 10)
    assert config.optim_wrapper.optimizer.lr == pytest.approx(3.5e-4)
    assert config.auto_scale_lr.base_batch_size == 64
    assert 'num_classes' not in config.model


def test_the_comparison_on_ward_differs_in_the_model_alone():
    recipes = []
    for name in WARD:
        config = load(name)
        assert config.model.metric_loss == load(WARD[0]).model.metric_loss
        assert config.model.classifier == load(WARD[0]).model.classifier
        hooks = [hook.type for hook in config.get('custom_hooks', ())]
        assert hooks in ([], ['effvit_mm.MaskedSoftmaxHook'])
        recipes.append({k: v for k, v in config.items() if k not in ('model', 'custom_hooks')})
    assert len(recipes) == 7 and all(recipe == recipes[0] for recipe in recipes)


def test_small_pslt_pads_no_window():
    """Maps that the ladder stages see are whole windows, or smaller than one and cut to it."""
    config = load('reid_pslt-tiny_walkers')
    backbone = build(config, 'meta').backbone
    width, height = step_of(config.test_dataloader.dataset.pipeline, 'Resize').scale
    assert config.model.backbone.mask_padding
    for index in (2, 3):
        for side in backbone.map_size((height, width), index):
            assert side % 7 == 0 or side < 7


@pytest.mark.parametrize('name', WALKERS)
def test_a_step_of_a_short_training_reaches_every_parameter(name):
    torch.manual_seed(0)
    config = load(name)
    config.model.num_classes = 2
    model = build(config).train()
    width, height = step_of(config.test_dataloader.dataset.pipeline, 'Resize').scale
    images = torch.randint(0, 256, (4, 3, height, width), dtype=torch.uint8)
    samples = [DataSample(metainfo={'camid': i}).set_gt_label(i // 2) for i in range(4)]
    batch = model.data_preprocessor({'inputs': images, 'data_samples': samples}, training=True)
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    assert loss.isfinite()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    'data, variable',
    [
        ('market1501', 'MARKET1501_ROOT'),
        ('dukemtmc', 'DUKEMTMC_ROOT'),
        ('cuhk03', 'CUHK03_ROOT'),
        ('msmt17-v2', 'MSMT17_ROOT'),
        ('folder', 'REID_FOLDER_ROOT'),
        ('walkers', 'WALKERS_ROOT'),
        ('ward', 'WARD_ROOT'),
    ],
)
def test_people_are_found_through_the_environment_or_an_option(monkeypatch, data, variable):
    monkeypatch.setenv(variable, '/elsewhere')
    config = load(f'reid_pslt-tiny_{data}')
    loaders = [config[f'{split}_dataloader'].dataset for split in ('train', 'val', 'test')]
    assert {dataset.data_root for dataset in loaders} == {'/elsewhere'}
    config.data_root = '/option'
    spread_data_root(config, '/elsewhere')
    assert {dataset.data_root for dataset in loaders} == {'/option'}


def test_sets_of_a_joint_training_and_of_another_domain_have_their_own_places(monkeypatch):
    for variable in ('MARKET1501_ROOT', 'DUKEMTMC_ROOT', 'MSMT17_ROOT'):
        monkeypatch.setenv(variable, f'/{variable}')
    across = load('reid_pslt-tiny_market1501-to-dukemtmc')
    assert across.train_dataloader.dataset.data_root == '/MARKET1501_ROOT'
    assert across.test_dataloader.dataset.data_root == '/DUKEMTMC_ROOT'
    joint = load('reid_pslt-tiny_market1501-msmt17').train_dataloader.dataset
    assert joint.type == 'effvit_mm.ConcatReID'
    roots = [part.data_root for part in joint.datasets]
    assert roots == ['/MARKET1501_ROOT', '/MSMT17_ROOT']
