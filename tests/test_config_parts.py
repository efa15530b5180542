"""What stands for something in a registry, wherever in a config, is named by its key."""

from __future__ import annotations

import re

import pytest
from refusals import check_refused, prepared
from remedies import tries
from trainer import make_folder, write_config

from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.argument_kinds import check_arguments
from effvit_mm.openmm.config.checks import check_factors, check_pooling
from effvit_mm.openmm.config.data_sets import check_set
from effvit_mm.openmm.config.kinds import check_types, check_values
from effvit_mm.openmm.config.loading import load_config

# Of a config with these, a line more and what is said of it.
PARTS = """
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
"""
WRONG = {
    "model['backbone']['init_cfg'] = dict(checkpoint='a.pth')": (
        r'model\.backbone\.init_cfg\.type is missing beside checkpoint: .* type Pretrained'
    ),
    "model['head']['init_cfg'] = [dict(type='Normal', layer='Linear'), {}]": (
        r'model\.head\.init_cfg\.type is missing beside nothing: '
    ),
    "visualizer = dict(_delete_=True, type='UniversalVisualizer', vis_backends={})": (
        r'visualizer\.vis_backends: a dict with a type is needed, not \{\}'
    ),
    "train_dataloader['dataset']['indices'] = 0": (
        r'train_dataloader\.dataset\.indices=0: no image is left'
    ),
    "val_dataloader['dataset'] = dict(type='RepeatDataset', times=1, dataset=dict("
    "val_dataloader['dataset'], indices=[]))": (
        r'val_dataloader\.dataset\.dataset\.indices=\[\]: no image is left'
    ),
    "visualizer['vis_backends'] = [dict(type='LicalVisBackend')]": (
        r"visualizer\.vis_backends\[0\]\.type='LicalVisBackend': .*mean 'LocalVisBackend'\?"
    ),
    "visualizer['vis_backends'] = [dict(type='LocalVisBackend', img_save_di='x')]": (
        r"visualizer\.vis_backends\[0\]\.img_save_di='x': .* mean 'img_save_dir'\?"
    ),
    "visualizer['vis_backends'] = ['LocalVisBackend']": (
        r'visualizer\.vis_backends\[0\]: a dict with a type is needed'
    ),
    "optim_wrapper['constructor'] = 0.5": (
        r'^optim_wrapper\.constructor=0\.5: there is no such optimizer wrapper constructor$'
    ),
    "optim_wrapper['constructor'] = [1, 2]": r'^optim_wrapper\.constructor=\[1, 2\]: there is no',
    "optim_wrapper['constructor'] = 'DefaultOptimWrapperConstructr'": (
        r"^optim_wrapper\.constructor=.*mean 'DefaultOptimWrapperConstructor'\?"
    ),
    "train_dataloader['collate_fn'] = dict(type='pseudo_collat')": (
        r"train_dataloader\.collate_fn\.type='pseudo_collat': .*mean 'pseudo_collate'\?"
    ),
    "val_dataloader['collate_fn'] = 'x'": r"val_dataloader\.collate_fn='x': a dict with a type",
    "train_dataloader['worker_init_fn'] = dict(type='worker_init')": (
        r"train_dataloader\.worker_init_fn\.type='worker_init': there is no such function"
    ),
    "train_dataloader['num_batch_per_epoch'] = 'x'": (
        r"train_dataloader\.num_batch_per_epoch='x': a whole number of at least 1 is needed"
    ),
    "train_dataloader['timeout'] = -1": r'train_dataloader\.timeout=-1: a number of at least 0 is',
    "train_dataloader['dataset']['data_prefix'] = dict(img_path=None)": (
        r'train_dataloader\.dataset\.data_prefix\.img_path=None: a text is needed'
    ),
    "model_wrapper_cfg = dict(type='MMDistributedDataParalel')": (
        r"model_wrapper_cfg\.type='MMDistributedDataParalel': .*mean 'MMDistributedDataParallel'\?"
    ),
    "tta_model = dict(type='AverageClsScoreTA')": (
        r"tta_model\.type='AverageClsScoreTA': .*mean 'AverageClsScoreTTA'\?"
    ),
    "custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverag')]": (
        r"custom_hooks\[0\]\.ema_type=.*mean 'ExponentialMovingAverage'\?"
    ),
    "custom_hooks = [dict(type='EMAHook', priority='NORML')]": (
        r"custom_hooks\[0\]\.priority='NORML': a number from 0 to 100 is needed, or one of HIGHEST"
    ),
    "default_hooks = dict(timer=dict(type='IterTimerHook', priority=101))": (
        r'default_hooks\.timer\.priority=101: a number from 0 to 100'
    ),
    "log_processor = dict(custom_cfg=[dict(data_src='loss', method_name='men')])": (
        r"log_processor\.custom_cfg\[0\]\.method_name='men': possible are .*mean"
    ),
    "log_processor = dict(custom_cfg=[dict(data_src='loss')])": (
        r'log_processor\.custom_cfg\[0\]\.method_name is missing'
    ),
    "launcher = 'slrm'": r"launcher='slrm': possible are none, pytorch, slurm, mpi",
    "model['train_cfg'] = dict(augments=dict(type='Mixp', alpha=1.0))": (
        r"model\.train_cfg\.augments\.type='Mixp': .*mean 'Mixup'\?"
    ),
    "model['train_cfg'] = dict(augments=[dict(type='Mixup', alpha='x')])": (
        r"model\.train_cfg\.augments\[0\]\.alpha='x': Mixup takes float there, not str"
    ),
    "model['init_cfg'] = dict(type='Pretrane', checkpoint='x')": (
        r"model\.init_cfg\.type='Pretrane': .*mean 'Pretrained'\?"
    ),
    "model['backbone']['init_cfg'] = [dict(type='TruncNormal', layr='Linear')]": (
        r"model\.backbone\.init_cfg\[0\]\.layr='Linear': .* mean 'layer'\?"
    ),
}
SOUND = (
    "optim_wrapper['constructor'] = 'effvit_mm.MergedOptimWrapperConstructor'",
    "train_dataloader['collate_fn'] = dict(type='pseudo_collate')",
    "custom_hooks = [dict(type='EMAHook', priority='LOW', ema_type='StochasticWeightAverage')]",
    "custom_hooks = [dict(type='EMAHook', priority=50)]",
    "log_processor = dict(custom_cfg=[dict(data_src='loss', method_name='min', window_size=3)])",
    "model['train_cfg'] = dict(augments=[dict(type='Mixup', alpha=0.8)])",
    "model['init_cfg'] = [dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),"
    " dict(type='Constant', layer=['LayerNorm', 'BatchNorm2d'], val=1.0, bias=0.0)]",
    "model['init_cfg'] = dict(type='Kaiming', override=dict(type='Xavier', name='head'))",
)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    """A config that works, to which lines are added."""
    folder = tmp_path_factory.mktemp('parts')
    path = write_config(folder / 'base.py', make_folder(folder / 'data', 1, 1))
    path.write_text(path.read_text() + PARTS)
    return path


@tries('; did you mean {}?')
@pytest.mark.parametrize('line', WRONG)
def test_what_no_registry_has_is_named(base, line):
    check_refused(base, line, WRONG[line])


@pytest.mark.parametrize('line', SOUND)
def test_what_a_registry_has_passes(base, line):
    prepared(base, line)


@pytest.mark.parametrize(
    ('factors', 'missing'),
    [
        ({'norm_decay_mult': 0.0}, 'weight_decay'),
        ({'custom_keys': {'head': {'decay_mult': 0.0}}}, 'weight_decay'),
        ({'layer_decay_rate': 0.7}, 'lr'),
        ({'bias_lr_mult': 2.0}, 'lr'),
        ({'custom_keys': {'head': {}}}, 'lr'),
        ({'custom_keys': {'head': {'lr_mult': 10.0}}}, 'lr'),
    ],
)
def test_a_factor_of_nothing(factors, missing):
    optimizer = {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.05}
    check_factors({'optimizer': optimizer, 'paramwise_cfg': factors})
    optimizer[missing] = None
    with pytest.raises(ConfigError, match=rf'optim_wrapper\.optimizer\.{missing} is missing: .*as'):
        check_factors({'optimizer': optimizer, 'paramwise_cfg': factors})
    check_factors({'optimizer': optimizer, 'paramwise_cfg': {'bypass_duplicate': True}})


@tries('; give it, as model.neck.type=GlobalAveragePooling')
def test_maps_before_a_head_that_takes_a_vector():
    model = {
        'backbone': {'type': 'effvit_mm.PSLT', 'arch': 'tiny'},
        'head': {'type': 'mmpretrain.LinearClsHead', 'in_channels': 384, 'num_classes': 10},
    }
    with pytest.raises(ConfigError, match=r'model\.neck is missing: .*GlobalAveragePooling'):
        check_pooling(model)
    check_pooling({**model, 'neck': {'type': 'mmpretrain.GlobalAveragePooling'}})
    check_pooling({**model, 'head': {**model['head'], 'type': 'effvit_mm.LinearClsHead'}})
    tokens = {'type': 'effvit_mm.VisionTransformer', 'arch': 'tiny', 'out_type': 'cls_token'}
    check_pooling({**model, 'backbone': tokens})
    check_pooling({**model, 'backbone': {'type': 'mmpretrain.ResNet', 'depth': 18}})


@pytest.mark.parametrize(
    ('key', 'bad'),
    [
        ('octave_base_scale', -0.5),
        ('octave_base_scale', 0),
        ('ratios', [1.0, -2.0]),
        ('ratios', [1.0, 'x']),
        ('strides', [8, 0]),
        ('strides', [[8, 8], [16, -16]]),
        ('scales', [float('inf')]),
        ('scales_per_octave', 0),
    ],
)
@pytest.mark.parametrize('part', ['anchor_generator', 'prior_generator'])
def test_sides_and_ratios_of_anchors(part, key, bad):
    with pytest.raises(ConfigError, match=rf'^model\.bbox_head\.{part}\.{key}=.*numbers above 0'):
        check_values({'bbox_head': {part: {key: bad}}}, 'model')
    sound = {'ratios': [0.5, 1.0], 'strides': [(8, 8), 16], 'offset': 0, 'center_offset': 0.5}
    check_values({'bbox_head': {part: {**sound, 'scales': None, 'base_sizes': [4]}}}, 'model')


@pytest.mark.parametrize('name', ['nms', 'soft_nms'])
def test_a_misspelt_type_of_a_suppression(name):
    check_types({'nms': {'type': name, 'iou_threshold': 0.5}}, 'model.test_cfg')
    with pytest.raises(ConfigError, match=r"^model\.test_cfg\.nms\.ytpe='\w+': .*mean 'type'\?"):
        check_types({'nms': {'ytpe': name, 'iou_threshold': 0.5}}, 'model.test_cfg')


def test_what_mmengine_alone_has_is_looked_up_without_a_word(base, capfd):
    prepared(base, "train_dataloader['collate_fn'] = dict(type='pseudo_collate')")
    with pytest.raises(ConfigError, match='did you mean'):
        prepared(base, "train_dataloader['collate_fn'] = dict(type='pseudo_collat')")
    assert 'registry' not in ''.join(capfd.readouterr())


def test_an_infinite_number_where_a_whole_one_is_wanted():
    pytest.importorskip('mmdet')
    from mmdet.models.task_modules import RandomSampler

    sound = {'num': 256, 'pos_fraction': 0.5, 'neg_pos_ub': -1}
    check_arguments('model.train_cfg.rpn.sampler', sound, RandomSampler)
    for key in ('num', 'neg_pos_ub'):
        with pytest.raises(
            ConfigError, match=rf'sampler\.{key}=inf: RandomSampler takes int there'
        ):
            check_arguments(
                'model.train_cfg.rpn.sampler', {**sound, key: float('inf')}, RandomSampler
            )


@pytest.mark.parametrize(
    ('place', 'value', 'told'),
    [
        ('neck.out_channels', 0, 'numbers above 0'),
        ('neck.in_channels', [96, -1], 'numbers above 0'),
        ('bbox_head.feat_channels', 0, 'numbers above 0'),
        ('backbone.arch.embed_dims', 0, 'numbers above 0'),
        (
            'data_preprocessor.std',
            [58.4, [1, 2], 57.4],
            r'numbers above 0 are needed, not \[1, 2\]',
        ),
        ('data_preprocessor.mean', [[1.0], 2.0, 3.0], r'numbers are needed, not \[1\.0\]'),
        ('train_cfg.augments.alpha', float('inf'), 'at most 1,000,000'),
        ('loss_cls.beta', 1e30, 'at most 1,000,000'),
    ],
)
def test_numbers_that_no_model_has(place, value, told):
    *parts, key = place.split('.')
    node = {key: value}
    for part in reversed(parts):
        node = {part: node}
    with pytest.raises(ConfigError, match=rf'^model\.{re.escape(place)}=.*{told}'):
        check_values(node, 'model')


@pytest.mark.parametrize('key', ['backbone', 'rpn_head', 'roi_head'])
def test_none_for_a_part_that_a_detector_needs(key):
    pytest.importorskip('mmdet')
    from mmdet.models import MaskRCNN

    parts = {name: {'type': 'x'} for name in ('backbone', 'rpn_head', 'roi_head')}
    sound = {**parts, 'neck': None, 'train_cfg': {}, 'test_cfg': {}, 'data_preprocessor': None}
    check_arguments('model', sound, MaskRCNN)
    with pytest.raises(ConfigError, match=rf'^model\.{key}=None: MaskRCNN takes ConfigDict there'):
        check_arguments('model', {**sound, key: None}, MaskRCNN)


@pytest.mark.parametrize('given', [{}, {'ann_file': ''}, {'ann_file': None}])
def test_a_coco_set_without_annotations(given):
    pytest.importorskip('mmdet')
    node = {'type': 'mmdet.CocoDataset', 'data_root': 'data', **given}
    with pytest.raises(ConfigError, match=r'^train_dataloader\.dataset\.ann_file is missing: the'):
        check_set('train_dataloader.dataset', node)
    check_set('train_dataloader.dataset', {**node, 'ann_file': 'train.json'})
    check_set('train_dataloader.dataset', {'type': 'mmdet.XMLDataset', **given})


@pytest.mark.parametrize(
    'given',
    ['3', "'os'", "['os']", 'dict(imports=3)', "dict(imports=['os', 3])", 'dict(impots=[])'],
)
def test_imports_of_another_kind(tmp_path, given):
    config = tmp_path / 'c.py'
    config.write_text(f'custom_imports = {given}\n')
    with pytest.raises(ConfigError, match='custom_imports') as error:
        load_config(str(config), [])
    assert '\n' not in str(error.value)
    config.write_text("custom_imports = dict(imports=['os'])\n")
    load_config(str(config), [])
