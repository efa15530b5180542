"""A value of another kind, or a misspelt key of a dict without a type, is named at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import pytest
from coco_sets import make_config
from mmengine.config import Config
from refusals import check_refused, prepared
from remedies import tries
from trainer import make_folder, write_config

from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.argument_kinds import check_arguments
from effvit_mm.openmm.config.checks import check_config
from effvit_mm.openmm.config.kinds import check_kinds, check_values
from effvit_mm.openmm.config.loading import load_config

WRONG = {
    'default_hooks = 3': r'default_hooks=3: a dict is needed, not int',
    "env_cfg = 'many'": r"env_cfg='many': a dict is needed, not str",
    'env_cfg = dict(cudnn_benchmrk=True)': r'env_cfg\.cudnn_benchmrk=True: .*cudnn_benchmark',
    'env_cfg = dict(mp_cfg=[1])': r'env_cfg\.mp_cfg=\[1\]: a dict is needed, not list',
    'randomness = dict(seed=1, deterministics=True)': r"deterministics=True: .* 'deterministic'",
    "custom_hooks = dict(type='EMAHook')": r'custom_hooks=.*: a list is needed, not',
    "log_level = 'INFOO'": r"log_level='INFOO': possible are CRITICAL, ERROR",
    'log_level = True': r'log_level=True: possible are',
    'default_scope = 3': r'default_scope=3: a text is needed, not int',
    "resume = 'no'": r"resume='no': True or False is needed, not str",
    'data_checks = dict(alow_empty_classes=True)': r"mean 'allow_empty_classes'",
    'auto_scale_lr = dict(base_batch_size=8, enabled=True)': r"enabled=True: .* mean 'enable'",
    "default_hooks = dict(loger=dict(type='LoggerHook'))": r"default_hooks\.loger: .* 'logger'",
    "model['train_cfg'] = dict(augmets=dict(type='Mixup', alpha=1.0))": r"augmets=.* 'augments'",
    "default_hooks = dict(sampler_seed=['x'])": (
        r"default_hooks\.sampler_seed=\['x'\]: a dict is needed, not list"
    ),
    "custom_hooks = [dict(type='EMAHook'), 3]": r'custom_hooks\[1\]=3: a dict is needed, not int',
    "model['train_cfg'] = dict(rcnn=['x'])": r"train_cfg\.rcnn=\['x'\]: a dict is needed, not str",
    'data_preprocessor = dict(std=[1.0, dict(a=1), 1.0])': (
        r"data_preprocessor\.std=.*: numbers above 0 are needed, not \{'a': 1\}"
    ),
    "param_scheduler = 'many'": r"param_scheduler='many': a dict or a list of dicts is needed",
    'val_dataloader = dict(_delete_=True, **dict(val_dataloader, sampler=[1, 2]))': (
        r'val_dataloader\.sampler=\[1, 2\]: a dict with a type is needed'
    ),
    "param_scheduler = [dict(type='LinearLR', end=1), '']": (
        r"param_scheduler=.*, ''\]: a dict or a list of dicts is needed"
    ),
    'param_scheduler = [None]': r'param_scheduler=\[None\]: a dict or a list of dicts is needed',
    'param_scheduler = dict(a=1)': r'param_scheduler\.a=1: a dict or a list of dicts is needed',
    "model['head']['init_cfg'] = True": r'model\.head\.init_cfg=True: \w+ takes a dict or a list',
    "val_dataloader['sampler'] = dict(tyxe='DefaultSampler')": (
        r"val_dataloader\.sampler\.tyxe='DefaultSampler': no such key; did you mean 'type'\?"
    ),
    'log_processor = dict(window_size=[1])': r'window_size=\[1\]: a whole number of at least 1',
    "train_dataloader['dataset']['filter_cfg'] = dict(min_size='')": r"min_size='': a number of at",
    "data_preprocessor = dict(num_classes=['x'])": (
        r"data_preprocessor\.num_classes=\['x'\]: a whole number of at least 1 is needed"
    ),
    'compiel = False': r"compiel: no such key; did you mean 'compile'\?",
    "optim_wrapper['paramwise_cfg'] = dict(bias_decay_mult=['x'])": (
        r"paramwise_cfg\.bias_decay_mult=\['x'\]: a number of at least 0 is needed"
    ),
    "env_cfg = dict(mp_cfg=dict(mp_start_method='frok'))": (
        r"mp_start_method='frok': possible are fork, spawn, forkserver"
    ),
    "train_dataloader['num_workers'] = 2**40": (
        r'train_dataloader\.num_workers=1099511627776: 1024 or less is needed'
    ),
    "model['head']['loss'] = dict(type='LabelSmoothLoss', label_smooth_val=float('inf'))": (
        r'label_smooth_val=inf: a number from 0 to 1 is needed'
    ),
    'data_preprocessor = dict(std=[1.0, 0, 1.0])': r'\.std=.*: numbers above 0 are needed, not 0',
    'env_cfg = dict(mp_cfg=dict(opencv_num_threads=0.5))': (
        r'env_cfg\.mp_cfg\.opencv_num_threads=0\.5: a whole number of at least -1 is needed'
    ),
    "optim_wrapper = dict(_delete_=True, optimizer=['x'])": (
        r"optim_wrapper\.optimizer=\['x'\]: a dict is needed"
    ),
    "optim_wrapper['paramwise_cfg'] = dict(cusom_keys={'.head': dict(decay_mult=0.0)})": (
        r"optim_wrapper\.paramwise_cfg\.cusom_keys=.* did you mean 'custom_keys'\?"
    ),
    "optim_wrapper['paramwise_cfg'] = dict(custom_keys={'.head': dict(decay_mul=0.0)})": (
        r"paramwise_cfg\.custom_keys\.\.head\.decay_mul=0\.0: .* did you mean 'decay_mult'\?"
    ),
    'test_dataloader = dict(_delete_=True, **test_dataloader)\n'
    "test_dataloader['dataset'] = dict(test_dataloader['dataset'])\n"
    "test_dataloader['dataset']['pipeline'] = [dict(taype='LoadImageFromFile')]": (
        r"pipeline\[0\]\.taype='LoadImageFromFile': no such key; did you mean 'type'\?"
    ),
    "test_evaluator = dict(typ='Accuracy', topk=(1,))": (
        r"test_evaluator\.typ='Accuracy': no such key; did you mean 'type'\?"
    ),
    "param_scheduler = [dict(hype='LinearLR', end=1)]": (
        r"param_scheduler\[0\]\.hype='LinearLR': no such key; did you mean 'type'\?"
    ),
    "param_scheduler = [dict(tape='of mine', end=1)]": (
        r'param_scheduler\[0\]: a dict with a type is needed'
    ),
    "param_scheduler = dict(tyep='LinearLR', end=1)": (
        r"param_scheduler\.tyep='LinearLR': no such key; did you mean 'type'\?"
    ),
    "default_hooks = dict(sampler_seed=dict(_delete_=True, tyep='DistSamplerSeedHook'))": (
        r"default_hooks\.sampler_seed\.tyep='DistSamplerSeedHook': .* did you mean 'type'\?"
    ),
    "custom_hooks = [dict(tpye='EMAHook')]": (
        r"custom_hooks\[0\]\.tpye='EMAHook': no such key; did you mean 'type'\?"
    ),
    "visualizer = dict(_delete_=True, type='UniversalVisualizer', "
    "vis_backends=[dict(tyep='LocalVisBackend')])": (
        r"visualizer\.vis_backends\[0\]\.tyep='LocalVisBackend': .* did you mean 'type'\?"
    ),
    'default_hooks = dict(sampler_seed=dict(speed=1))': (
        r'default_hooks\.sampler_seed\.speed=1: DistSamplerSeedHook has no such argument; .* none'
    ),
    'road_from = None': r"road_from: no such key; did you mean 'load_from'\?",
    "train_dataloader['dataset']['metainfo'] = dict(clases=['bars', 'dots', 'rings'])": (
        r"train_dataloader\.dataset\.metainfo\.clases=\[.*\]: .* did you mean 'classes'\?"
    ),
    "optim_wrapper['paramwise_cfg'] = dict(bias_decay_mult=float('inf'))": (
        r'optim_wrapper\.paramwise_cfg\.bias_decay_mult=inf: a number of at most 1,000,000 is'
    ),
    "optim_wrapper['paramwise_cfg'] = dict(custom_keys={'.head': dict(lr_mult=10**400)})": (
        r'paramwise_cfg\.custom_keys\.\.head\.lr_mult=10+: a number of at most 1,000,000 is'
    ),
    "optim_wrapper['optimizer'].update(weight_decay=1e30)": (
        r'optim_wrapper\.optimizer\.weight_decay=1e\+30: a number of at most 1,000,000 is needed'
    ),
    "optim_wrapper['optimizer'].update(lr=1e30)": (
        r'optim_wrapper\.optimizer\.lr=1e\+30: a number of at most 1,000,000 is needed'
    ),
    "model['head']['loss'] = dict(type='CrossEntropyLoss', loss_weight=float('inf'))": (
        r'model\.head\.loss\.loss_weight=inf: a number of at most 1,000,000 is needed'
    ),
    "default_scope = 'mmengine'": r"there is no such \w+ in default_scope='mmengine'",
    "model['head']['cal_acc'] = 'yes'": r"model\.head\.cal_acc='yes': StackedLinearClsHead takes",
    "model['head']['loss'] = dict(type='CrossEntropyLoss', loss_weight='many')": (
        r"model\.head\.loss\.loss_weight='many': CrossEntropyLoss takes a number there, not str"
    ),
    "train_dataloader['dataset']['filter_cfg'] = True": (
        r'train_dataloader\.dataset\.filter_cfg=True: a dict is needed, not bool'
    ),
    "train_dataloader['dataset']['filter_cfg'] = []": r'\.filter_cfg=\[\]: a dict is needed, not',
    "val_dataloader['dataset']['metainfo'] = 'x'": r"dataset\.metainfo='x': a dict is needed",
    "train_dataloader['dataset']['data_prefix'] = dict(img_path=3)": (
        r'train_dataloader\.dataset\.data_prefix\.img_path=3: a text is needed, not int'
    ),
    "train_dataloader['dataset']['data_prefix'] = True": r'data_prefix=True: a text or a dict is',
    "train_dataloader['dataset']['data_root'] = 3": r'dataset\.data_root=3: a text is needed',
    "train_dataloader['dataset']['pipeline'] = 3": r'dataset\.pipeline=3: a list is needed',
    "train_dataloader['dataset'] = dict(type='ConcatDataset', datasets=True)": (
        r'train_dataloader\.dataset\.datasets=True: a list is needed, not bool'
    ),
    "model['neck'] = ['x']": r"model\.neck=\['x'\]: \w+ takes a dict or a list of dicts there",
    "model['neck'] = dict(a=1)": r"model\.neck=\{'a': 1\}: a dict with a type is needed",
    "model['head'] = True": r'model\.head=True: \w+ takes a dict or a list of dicts there',
    "model['train_cfg'] = True": r'model\.train_cfg=True: \w+ takes a dict or a list of dicts',
    "model['train_cfg'] = dict(augments=['x'])": (
        r"model\.train_cfg\.augments=\['x'\]: a dict or a list of dicts is needed"
    ),
    "model['backbone']['norm_cfg'] = True": r'backbone\.norm_cfg=True: a dict or a list of dicts',
    "model['head']['loss'] = 3": r'model\.head\.loss=3: \w+ takes a dict or a list of dicts there',
    "visualizer = dict(type='UniversalVisualizer', vis_backends=3)": (
        r'visualizer\.vis_backends=3: a dict or a list of dicts is needed'
    ),
    "optim_wrapper['paramwise_cfg'] = True": r'optim_wrapper\.paramwise_cfg=True: a dict or a',
    "optim_wrapper['clip_grad'] = True": r'optim_wrapper\.clip_grad=True: \w+ takes a dict or',
    "model['head']['in_channels'] = None": r'model\.head\.in_channels=None: \w+ takes int there',
    "train_dataloader['dataset']['pipeline'][1].update(prob=1.5)": (
        r'train_dataloader\.dataset\.pipeline\[1\]\.prob=1\.5: a number from 0 to 1 is needed'
    ),
    "model['head']['dropout_rate'] = float('nan')": r'dropout_rate=nan: a number is needed',
    "train_dataloader['dataset']['ann_file'] = 0.5": (
        r'train_dataloader\.dataset\.ann_file=0\.5: CustomDataset takes str there, not float'
    ),
    "train_dataloader['dataset']['ann_file'] = ['x']": r'takes str there, not list',
    'data_root = 3': r'data_root=3: a text is needed, not int',
    'env_cfg = dict(dist_cfg=True)': r'env_cfg\.dist_cfg=True: a dict or a list of dicts is needed',
    "train_cfg.pop('by_epoch')": r'train_cfg\.by_epoch is missing: of max_epochs it is True',
    "train_cfg.update(by_epoch='many')": r"train_cfg\.by_epoch='many': True or False is needed",
    'data_preprocessor = dict(mean=[1.0, 1.0, 1.0], std=[1.0, 1.0])': (
        r'data_preprocessor\.std=\[1\.0, 1\.0\]: 2 numbers, where data_preprocessor\.mean has 3'
    ),
    'custom_imports = dict(imports=[dict(a=1)])': r'config \S+: custom_imports: TypeError: ',
    "custom_imports = dict(imports=['no.such'])": r'custom_imports: ImportError: .*no\.such',
    "optim_wrapper['paramwise_cfg'] = dict(custom_keys={'.head': dict(decay_mult=-1)})": (
        r'paramwise_cfg\.custom_keys\.\.head\.decay_mult=-1: a number of at least 0 is needed'
    ),
    "val_dataloader['persistent_workers'] = 'many'": (
        r"val_dataloader\.persistent_workers='many': True or False is needed"
    ),
    'work_dir = 3': r'work_dir=3: a text is needed, not int',
    'train_cfg.update(val_interval=1.0)': r'train_cfg\.val_interval=1\.0: a whole number of at',
    'train_cfg.update(val_interval=0.5)': r'train_cfg\.val_interval=0\.5: a whole number of at',
    "runner_type = None\nrunnsr_type = 'effvit_mm.Runner'": (
        r"runnsr_type: no such key; did you mean 'runner_type'\?"
    ),
    "wrk_dir = 'w'": r"wrk_dir: no such key; did you mean 'work_dir'\?",
    "pipeline.insert(1, dict(type='RandomChoiceResize', scales=[(32, 32), dict(a=1)]))": (
        r"pipeline\[1\]\.scales=.*: numbers are needed, not \{'a': 1\}"
    ),
    "pipeline.insert(1, dict(type='Resize', scale=(dict(a=1), 8)))": (
        r"pipeline\[1\]\.scale=.*: Resize takes .*int.* there, not \{'a': 1\}"
    ),
    "pipeline.insert(1, dict(type='RandAugment', num_policies=2, "
    "magnitude_level=9, policies='timm_increasing', hparams=dict(interpolaltion='bicubic')))": (
        r"pipeline\[1\]\.hparams\.interpolaltion='bicubic': .* did you mean 'interpolation'\?"
    ),
    "pipeline.insert(1, dict(type='AutoAugment', "
    "policies=[[dict(type='Invert', prob=0.1)]], hparams=dict(pad_val=3)))": (
        r'pipeline\[1\]\.hparams\.pad_val=3: no such key; it takes prob'
    ),
    "pipeline.insert(1, dict(type='Pad', size=(40, 40), "
    'pad_val=dict(ig=0)))': r"pipeline\[1\]\.pad_val\.ig=0: no such key; did you mean 'img'\?",
    "pipeline.insert(1, dict(type='Pad', size=(40, 40), pad_val=float('inf')))": (
        r'pipeline\[1\]\.pad_val=inf: a number of at most 1,000,000 is needed'
    ),
    "pipeline.insert(1, dict(type='Pad', size=(40, 40), pad_val=dict(img=(0, 0, 1e30))))": (
        r'pipeline\[1\]\.pad_val\.img=\(0, 0, 1e\+30\): a number of at most 1,000,000 is needed'
    ),
    "tta_pipeline = [dict(type='Pad', pad_val=float('inf'))]": r'^tta_pipeline\[0\]\.pad_val=inf',
    'data_preprocessor = dict(std=[1.0, 1e30, 1.0])': (
        r'data_preprocessor\.std=.*: a number of at most 1,000,000 is needed'
    ),
    "data_preprocessor = dict(mean='')": r"data_preprocessor\.mean='': numbers are needed, not ''",
    'data_preprocessor = dict(std=True)': r'\.std=True: numbers above 0 are needed, not',
    'env_cfg = dict(mp_cfg=dict(opencv_num_threads=2**40))': (
        r'env_cfg\.mp_cfg\.opencv_num_threads=1099511627776: 1024 or less is needed, .* thread'
    ),
    'data_preprocessor = dict(std=1e30)': r'data_preprocessor\.std=1e\+30: a number of at most',
    'data_preprocessor = dict(mean=[1.0, 1e30, 1.0])': r'mean=.*: a number of at most 1,000,000 is',
    "model['backbone'] = dict(type='mmdet.SwinTransformer', embed_dims=10**6)": (
        r'model\.backbone\.embed_dims=1000000: a number of at most 100,000 is needed'
    ),
    "model['backbone'] = dict(type='effvit_mm.PSLT', arch=dict(stages=dict(embed_dims=[8, "
    '[16, 10**6]])))': (
        r'backbone\.arch\.stages\.embed_dims=\[8, \[16, 1000000\]\]: a number of at most 100,000 is'
    ),
    "model['backbone'].update(base_channels=10**6)": r'base_channels=1000000: a number',
    "model['head'].update(in_channels=10**6)": (
        r'model\.head\.in_channels=1000000: a number of at most 100,000 is needed'
    ),
    "model['head'].update(num_classes=10**6)": (
        r'model\.head\.num_classes=1000000: a number of at most 500,000 is needed'
    ),
    "model['head'].update(mid_channels=[10**6])": (
        r'model\.head\.mid_channels=\[1000000\]: a number of at most 100,000 is needed'
    ),
    "model['head']['loss'] = dict(type='CrossEntropyLoss', loss_weight=[1, 2])": (
        r'head\.loss\.loss_weight=\[1, 2\]: CrossEntropyLoss takes a number there, not list'
    ),
    "train_cfg['max_epochs'] = [1, 2]": r'train_cfg\.max_epochs=\[1, 2\]: a whole number of at',
    "param_scheduler[0]['begin'] = [1, 2]": (
        r'param_scheduler\[0\]\.begin=\[1, 2\]: LinearLR takes int there, not list'
    ),
}
# Of the test alone, which a training does not build.
OF_TESTS = {
    "dict(type='PackInputs', meta_keys=('img_path', 'ori_shap'))": (
        r"^test_dataloader\.dataset\.pipeline\[0\]\.meta_keys\[1\]='ori_shap': no step writes it; "
        r"did you mean 'ori_shape'\?"
    ),
    "dict(type='PackInputs', algorithm_keys='gt_anwer')": (
        r"algorithm_keys='gt_anwer': no step writes it; did you mean 'gt_answer'\?"
    ),
}
SPLITS = {
    "type='effvit_mm.Digits', split='tset'": "Digits has the splits 'train' and 'test', not 'tset'",
    "type='CIFAR10', data_root='none', split='tset'": r"must be one of \['train', 'test'\]",
    "type='InShop', data_root='none', split='querry'": r'must be one of .*query',
    "type='effvit_mm.ReIDDataset', data_root='none', split='tset'": '^[^:]*: re-ID data sets have',
}


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    """A config that works, to which lines are added."""
    folder = tmp_path_factory.mktemp('kinds')
    return write_config(folder / 'base.py', make_folder(folder / 'data', 1, 1))


@tries('; did you mean {}?')
@pytest.mark.parametrize('line', WRONG)
def test_a_value_of_another_kind(base, line):
    check_refused(base, line, WRONG[line])


@pytest.mark.parametrize('step', OF_TESTS)
def test_a_misspelt_name_of_what_is_told_of_an_image(base, step):
    def check(step: str) -> None:
        prepared(base, "test_dataloader = dict(_delete_=True, **test_dataloader)\n"
                 "test_dataloader['dataset'] = dict(test_dataloader['dataset'])\n"
                 f"test_dataloader['dataset']['pipeline'] = [{step}]")  # fmt: skip

    with pytest.raises(ConfigError, match=OF_TESTS[step]) as error:
        check(step)
    wrong, meant = re.search(r"='(\w+)': .*did you mean '(\w+)'", str(error.value)).groups()
    check(step.replace(wrong, meant))
    check(step.replace(wrong, 'of_mine'))


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize('arguments', SPLITS)
def test_a_misspelt_split(base, arguments, split):
    """Though nothing is there of the set yet."""

    def check(arguments: str) -> None:
        prepared(base, f"{split}_dataloader = dict(batch_size=1, num_workers=0, _delete_=True, "
                 "sampler=dict(type='DefaultSampler', shuffle=False), "
                 f"dataset=dict({arguments}, pipeline=[]))")  # fmt: skip

    with pytest.raises(ConfigError, match=SPLITS[arguments]) as error:
        check(arguments)
    assert re.match(rf"{split}_dataloader\.dataset\.split='\w+': ", str(error.value))
    check(arguments.replace('tset', 'test').replace('querry', 'query'))


@pytest.mark.parametrize('scope', ["'mmengine'", 'None'])
def test_a_near_name_in_a_scope_without_models(base, scope):
    """What is near is one of mmengine's own, and the scope was what was missing."""
    with pytest.raises(ConfigError, match=r"such \w+ in default_scope='mmengine'; did you mean"):
        prepared(base, f"default_scope = {scope}\nmodel['type'] = 'BaseModle'")


def test_randomness_without_a_seed_draws_one(base):
    assert prepared(base, 'randomness = dict(deterministic=True)').randomness.seed is None


def test_none_is_what_the_framework_has(base):
    cfg = prepared(base, 'env_cfg = log_level = log_processor = randomness = None')
    assert not {'env_cfg', 'log_level', 'log_processor', 'randomness'} & set(cfg)
    cfg = prepared(
        base, "env_cfg = dict(_delete_=True, mp_cfg=None, dist_cfg=dict(backend='gloo'))"
    )
    assert cfg.env_cfg == {'dist_cfg': {'backend': 'gloo'}}
    cfg = prepared(base, 'env_cfg = dict(_delete_=True, mp_cfg=dict(mp_start_method=None))')
    assert cfg.env_cfg == {'mp_cfg': {}}


class Part:
    """With arguments of many kinds."""

    def __init__(
        self, size: int | Sequence[int], mode: Literal['a', 'b'] = 'a', pad: int | str = 0,
        kind: dict | None = None, rate=0.5, free=None, flag=False, one: float = 1.0,
        name: str | None = None, where: str | list = '', places: dict = {'first': 1},  # noqa: B006
        scale: str = 'dynamic', bias: bool = 'qv',
    ):  # fmt: skip
        pass


def test_what_annotations_allow_passes():
    good = {'size': [3, 4], 'mode': 'b', 'pad': 'same', 'kind': {}, 'rate': [1], 'free': 'x'}
    check_arguments('part', {**good, 'flag': 'on_input', 'unknown': 'x'}, Part)
    check_arguments('part', {'name': None, 'where': [1], 'size': 0.5, 'kind': [{}]}, Part)
    check_arguments('part', {'kind': None, 'name': None, 'flag': None, 'size': ()}, Part)
    check_arguments('part', {'places': {'second': 2}, 'scale': 512.0}, Part)
    check_arguments('part', {'places': {'type': 'Other', 'fisrt': 1}}, Part)
    check_arguments('part', {'bias': 'qkv'}, Part)  # whose default is no bool either
    with pytest.raises(ConfigError, match=r"^part\.places\.fisrt=1: .* mean 'first'\?"):
        check_arguments('part', {'places': {'fisrt': 1}}, Part)
    wrong = {'mode': 'c', 'rate': 'x', 'one': '1', 'size': 'x', 'kind': 'x', 'name': 3}
    more = {'kind': 3, 'size': ['x'], 'one': None}
    for name, value in (
        *wrong.items(),
        *more.items(),
        ('kind', True),
        ('kind', ['x']),
        ('one', [1]),
    ):
        with pytest.raises(ConfigError, match=rf'^part\.{name}='):
            check_arguments('part', {name: value}, Part)
    with pytest.raises(ConfigError, match=r'^part\.one=\(1, 1\): Part takes float there, not'):
        check_arguments('part', {'one': (1, 1)}, Part)


def test_numbers_of_any_depth():
    check_values({'a': [1, {'prob': (0, 0.5)}], 'norm_type': float('inf')}, 'x')
    with pytest.raises(ConfigError, match=r'^x\.a\[1\]\.prob=-1: a number from 0 to 1'):
        check_values({'a': [1, {'prob': -1}]}, 'x')


def test_what_is_like_a_known_key_and_meant_passes(base):
    """Settings of one's own, a mapping between names, infinite bounds."""
    prepared(base, "enc_cfg = dict(depth=3)\nmodes = [1]\ncustom_keys = dict(dtype='float16')")
    bound = "optim_wrapper['clip_grad'] = dict(max_norm=1e5, norm_type=float('inf'))"
    assert prepared(base, bound).optim_wrapper.clip_grad.norm_type == float('inf')
    prepared(base, "train_dataloader['dataset']['metainfo'] = dict(clazz_source='mine')")
    prepared(base, "model['head'] = dict(type='LinearClsHead', in_channels=8, num_classes=None)")


def test_shipped_runtimes_pass():
    for name in ('default_runtime', 'default_runtime_det', 'default_runtime_reid'):
        check_kinds(Config.fromfile(f'configs/_base_/{name}.py'))
        load_config(f'configs/_base_/{name}.py', [])


DETECTOR = {
    "model['test_cfg'].update(nms=dict(_delete_=True, type='nms', iou_threshold=dict(a=1)))": (
        r"model\.test_cfg\.nms\.iou_threshold=\{'a': 1\}: nms takes float there"
    ),
    "model['test_cfg'].update(nms=dict(type='nms', iou_thr=0.5))": (
        r"model\.test_cfg\.nms\.iou_thr=0\.5: .* did you mean 'iou_threshold'\?"
    ),
    "model['test_cfg'].update(nms=dict(type='soft_mns'))": (
        r"model\.test_cfg\.nms\.type='soft_mns': .* did you mean 'soft_nms'\?"
    ),
    "visualizer = dict(type='DetLocalVisualiser')": (
        r"visualizer\.type='DetLocalVisualiser': .* did you mean 'DetLocalVisualizer'\?"
    ),
    "model['test_cfg'].update(nms=dict(type=None))": (
        r'nms\.type=None: .*; choose from nms, soft_nms, nms_rotated, nms_quadri'
    ),
    "model['test_cfg'].update(nms=dict(type='fast'))": (
        r"nms\.type='fast': .*; choose from nms, soft_nms, nms_rotated, nms_quadri"
    ),
    'train_dataloader.update(dataset=dict(filter_cfg=True))': (
        r'train_dataloader\.dataset\.filter_cfg=True: a dict is needed, not bool'
    ),
    'model.update(train_cfg=dict(assigner=dict(pos_iou_thr=None)))': (
        r'model\.train_cfg\.assigner\.pos_iou_thr=None: MaxIoUAssigner takes float there, not None'
    ),
    'model.update(train_cfg=dict(assigner=dict(neg_iou_thr=None)))': (
        r'model\.train_cfg\.assigner\.neg_iou_thr=None: MaxIoUAssigner takes Union\[float, tuple\]'
    ),
    "model.update(train_cfg=dict(assigner=dict(pos_iou_thr=['x'])))": (
        r"assigner\.pos_iou_thr=\['x'\]: MaxIoUAssigner takes float there, not 'x'"
    ),
    'model.update(train_cfg=dict(assigner=3))': r'train_cfg\.assigner=3: a dict is needed, not int',
    'model.update(train_cfg=dict(sampler=[]))': r'train_cfg\.sampler=\[\]: a dict is needed, not',
    'model.update(bbox_head=dict(bbox_coder=True))': (
        r'model\.bbox_head\.bbox_coder=True: RetinaHead takes a dict or a list of dicts there'
    ),
    "model.update(neck=['x'])": r"model\.neck=\['x'\]: \w+ takes a dict or a list of dicts there",
    'model.update(neck=dict(num_outs=None))': r'model\.neck\.num_outs=None: FPN takes int there',
    'model.update(neck=dict(out_channels=10**6))': (
        r'model\.neck\.out_channels=1000000: a number of at most 100,000 is needed'
    ),
    'model.update(bbox_head=dict(feat_channels=10**6))': r'feat_channels=1000000: a number',
    'model.update(bbox_head=dict(num_classes=10**6))': r'bbox_head\.num_classes=1000000: a number',
    'model.update(bbox_head=dict(anchor_generator=dict(scales_per_octave=10**6)))': (
        r'anchor_generator\.scales_per_octave=1000000: a number of at most 1,000 is needed'
    ),
    "model.update(bbox_head=dict(bbox_coder=dict(type='DeltaXYWHBBoxCoder', "
    'target_stds=[1.0, 1.0, 1.0, -1.0])))': (
        r'model\.bbox_head\.bbox_coder\.target_stds=.*: numbers above 0 .*, not -1\.0'
    ),
    "model.update(bbox_head=dict(bbox_coder=dict(type='TBLRBBoxCoder', normalizer=-4.0)))": (
        r'bbox_coder\.normalizer=-4\.0: numbers above 0 are needed'
    ),
    'model.update(train_cfg=dict(assigner=dict(pos_iou_thr=[1, 2])))': (
        r'assigner\.pos_iou_thr=\[1, 2\]: MaxIoUAssigner takes float there, not list'
    ),
    # The class takes any further arguments, and drops them.
    "model['train_cfg'] = dict(sampler=dict(type='RandomSampler', num=8, pos_fraction=0.5, "
    'add_gt_as_proposal=True))': (
        r"add_gt_as_proposal=True: RandomSampler .* did you mean 'add_gt_as_proposals'\?"
    ),
}
MISSPELT = ('iou_thr=', 'soft_mns', 'add_gt_as_proposal=', 'DetLocalVisualiser')


@tries('; choose from {}', '; did you mean {}?')
@pytest.mark.parametrize('line', DETECTOR)
def test_a_part_within_a_detector(tmp_path, line):
    def check(line: str, folder: str) -> None:
        config = make_config(tmp_path / folder, line + '\n')
        check_config(load_config(str(config), []), training=True)

    with pytest.raises(ConfigError, match=DETECTOR[line]) as error:
        check(line, 'given')
    if meant := re.search(r"did you mean '(\w+)'", str(error.value)):
        wrong = next(w for w in MISSPELT if w in line)
        check(line.replace(wrong, meant[1] + '=' * wrong.endswith('=')), 'meant')
    elif 'fast' in line:
        check(line.replace('fast', 'soft_nms'), 'chosen')


def test_what_batched_nms_takes_out_is_no_fault(tmp_path):
    line = "model['test_cfg'].update(nms=dict(type='nms', class_agnostic=True, split_thr=9))\n"
    check_config(load_config(str(make_config(tmp_path, line)), []), training=True)
