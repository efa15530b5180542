"""Checks of a config before anything is built from it.

Each raises a :class:`ConfigError` with the key, its value and what is allowed. They see what
frameworks notice late, in a deep traceback, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import mmengine.registry as root
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from torch.utils.data import DataLoader

from ...errors import ConfigError
from ...utils.text import did_you_mean, suggest
from .argument_kinds import check_arguments, check_shared_arguments
from .arguments import (
    check_names,
    check_node,
    find_class,
    has_type,
    is_number,
    node_class,
    parameters,
    type_path,
)
from .building import BUILD_ERRORS, typed_parts
from .data_sets import check_set
from .kinds import check_types, check_values

# What mmengine's runner, OpenMMLab's tools and ours read at a config's top level.
TOP_LEVEL_KEYS = {
    'activation_checkpointing', 'auto_scale_lr', 'backend_args', 'compile', 'custom_hooks',
    'custom_imports', 'data_checks', 'data_preprocessor', 'data_root', 'dataset_type',
    'default_hooks', 'default_scope', 'efficient_conv_bn_eval', 'env_cfg', 'experiment_name',
    'find_unused_parameters', 'launcher', 'load_from', 'log_level', 'log_processor', 'model',
    'model_wrapper_cfg', 'optim_wrapper', 'param_scheduler', 'randomness', 'resume', 'runner_type',
    'sync_bn', 'test_cfg', 'test_dataloader', 'test_evaluator', 'test_pipeline', 'train_cfg',
    'train_dataloader', 'train_pipeline', 'trust_checkpoint', 'tta_model', 'tta_pipeline',
    'use_ema', 'val_cfg', 'val_dataloader', 'val_evaluator', 'val_pipeline', 'vis_backends',
    'visualizer', 'work_dir',
}  # fmt: skip
SPLITS = ('train', 'val', 'test')
GROUPS = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
MODEL_PARTS = (
    'backbone', 'neck', 'head', 'data_preprocessor', 'bbox_head', 'roi_head', 'rpn_head',
    'pooling', 'classifier', 'metric_loss',
)  # fmt: skip
BUILT = (
    'model', 'data_preprocessor', 'optim_wrapper', 'param_scheduler', 'custom_hooks',
    'default_hooks', 'env_cfg', 'visualizer', 'tta_pipeline',
    *(f'{split}_{part}' for split in SPLITS for part in ('dataloader', 'cfg')),
)  # fmt: skip
INNER = (root.MODELS, root.TASK_UTILS)  # modules within a model; samplers, assigners, coders
# It takes one map, of which in_channels is the width.
SINGLE_MAP_NECK = 'SimpleFeaturePyramid'
# Dicts of a suppression of overlapping boxes, and what `batched_nms` takes out of them.
NMS = ('.nms', '.nms_cfg', '.roi_nms')
SUPPRESSIONS = ('nms', 'soft_nms', 'nms_rotated', 'nms_quadri')
NMS_EXTRAS = ('class_agnostic', 'max_num', 'split_thr')
MOST_WORKERS = 1024
LOADER_FLAGS = ('drop_last', 'persistent_workers', 'pin_memory')
LOADER_EXTRAS = ('num_batch_per_epoch', 'disable_subprocess_warning')

# Key -> (type, smallest value, whether the smallest itself is allowed, None is allowed).
NUMBERS: dict[str, tuple[type, float, bool, bool]] = {
    'train_cfg.max_epochs': (int, 1, True, False),
    'train_cfg.max_iters': (int, 1, True, False),
    'train_cfg.val_interval': (int, 1, True, False),
    'train_cfg.val_begin': (int, 0, True, False),
    'optim_wrapper.optimizer.lr': (Real, 0, False, False),
    'optim_wrapper.optimizer.weight_decay': (Real, 0, True, False),
    'optim_wrapper.accumulative_counts': (int, 1, True, False),
    'optim_wrapper.clip_grad.max_norm': (Real, 0, False, False),
    'default_hooks.logger.interval': (int, 1, True, False),
    'default_hooks.checkpoint.interval': (int, -1, True, False),
    'default_hooks.checkpoint.max_keep_ckpts': (int, -1, True, False),
    'auto_scale_lr.base_batch_size': (int, 1, True, False),
    'data_preprocessor.num_classes': (int, 1, True, True),
    'randomness.seed': (int, 0, True, True),
    'env_cfg.mp_cfg.opencv_num_threads': (int, -1, True, True),
    'model.head.num_classes': (int, 1, True, True),
    'model.num_classes': (int, 2, True, True),
    'log_processor.window_size': (int, 1, True, False),
    **{
        f'{split}_dataloader.dataset.filter_cfg.min_size': (Real, 0, True, True) for split in SPLITS
    },
    **{f'{split}_dataloader.batch_size': (int, 1, True, False) for split in SPLITS},
    **{f'{split}_dataloader.num_workers': (int, 0, True, False) for split in SPLITS},
}


def check_config(cfg: Config, training: bool) -> None:
    """Check keys, types of values, completeness, and the arguments of what will be built."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for key in (key for key in cfg if key in TOP_LEVEL_KEYS):
            check_types(cfg[key], key)
    _need_type(cfg.get('model'), 'model')
    check_groups(cfg, training)
    check_numbers(cfg)
    check_optimizer(cfg.get('optim_wrapper'))
    check_decay(cfg.get('optim_wrapper'))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for path, node, registry, injected in buildable_nodes(cfg):
            check_node(path, node, registry, injected)
            check_arguments(path, node, find_class(registry, node['type']))
            check_shared_arguments(path, node, registry)
            if registry is root.DATASETS:
                check_set(path, node)
        for path, node in typed_parts(cfg.model, 'model'):
            _check_inner(path, node)
        for key in BUILT:
            check_values(cfg.get(key), key)
        check_neck(cfg.model)  # builds the backbone, though without memory


def check_override(cfg: Config, key: str) -> None:
    """Refuse an override (``--cfg-options``) whose first part no config has.

    Where places of what is built end like it, one of them is what was meant.
    """
    first = key.split('.', 1)[0]
    if first in TOP_LEVEL_KEYS or first in cfg:
        return
    built = {name: part for name, part in cfg.items() if name in TOP_LEVEL_KEYS}
    places = [place for place in _places(built) if place.endswith(f'.{key}')]
    hint = suggest(first, TOP_LEVEL_KEYS | set(cfg))
    raise ConfigError(
        f'--cfg-options {key}: no such key{did_you_mean(*places[:3]) if places else hint}'
    )


def _places(node: object, path: str = '') -> Iterator[str]:
    """All keys within dicts and lists, each with those above it."""
    items = enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in node.items() if isinstance(node, Mapping) else items:
        place = f'{path}.{key}' if path else str(key)
        yield place
        yield from _places(value, place)


def check_groups(cfg: Config, training: bool) -> None:
    """Loader, loop and evaluator come together."""
    for group in GROUPS:
        given = [key for key in group if cfg.get(key) is not None]
        missing = [key for key in group if key not in given]
        if given and missing:
            hint = suggest(missing[0], [key for key in cfg if key not in TOP_LEVEL_KEYS])
            raise ConfigError(f'{missing[0]} is missing, though {given[0]} is set{hint}')
    needed = 'train_dataloader' if training else 'test_dataloader'
    if cfg.get(needed) is None:
        raise ConfigError(
            f'{needed} is missing: the config cannot be used to {"train" if training else "test"}'
        )
    dicts = [key for group in GROUPS for key in group if not key.endswith('_evaluator')]
    for key, value in ((key, cfg.get(key)) for key in dicts):
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f'{key}={value!r}: a dict is needed, not {type(value).__name__}')


def check_numbers(cfg: Config) -> None:
    """Types and ranges of the usual numbers."""
    for path, (kind, low, inclusive, none_allowed) in NUMBERS.items():
        value, found = _look_up(cfg, path)
        if not found or (value is None and none_allowed):
            continue
        word = 'a whole number' if kind is int else 'a number'
        bound = f'{"of at least" if inclusive else "above"} {low:g}'
        possible = is_number(value) and isinstance(value, kind)
        if not possible or value < low or (value == low and not inclusive):
            raise ConfigError(f'{path}={value!r}: {word} {bound} is needed')
    if cfg.get('val_dataloader') is not None:
        check_first_validation(cfg.get('train_cfg') or {})
    check_dynamic_intervals(cfg.get('train_cfg') or {})
    for split in SPLITS:
        workers = (cfg.get(f'{split}_dataloader') or {}).get('num_workers') or 0
        if workers > MOST_WORKERS:
            raise ConfigError(
                f'{split}_dataloader.num_workers={workers}: {MOST_WORKERS} or less is needed, for '
                'each is a process'
            )


def check_first_validation(loop: Mapping) -> None:
    """Refuse a first validation after the end: there would be none, and no best weights."""
    begin, last = loop.get('val_begin', 0), loop.get('max_epochs') or loop.get('max_iters')
    if last and begin > last:
        raise ConfigError(
            f'train_cfg.val_begin={begin}: the training ends after {last}; set it to {last} or '
            'less, or use --no-validate'
        )


def check_dynamic_intervals(loop: Mapping) -> None:
    """Refuse what mmengine would take apart at the first validation."""
    given = loop.get('dynamic_intervals')
    if given is None:
        return
    pairs = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    sound = all(
        isinstance(pair, Sequence)
        and len(pair) == 2
        and all(is_number(number) and isinstance(number, int) and number >= 1 for number in pair)
        for pair in pairs
    )
    if not sound or any(a[0] >= b[0] for a, b in pairwise(pairs)):
        unit = 'epoch' if loop.get('by_epoch', 'max_iters' not in loop) else 'iteration'
        raise ConfigError(
            f'train_cfg.dynamic_intervals={given!r}: give pairs of an {unit} and the val_interval '
            f'from it on, whole numbers of at least 1, the {unit}s rising: [(10, 2), (20, 1)]'
        )


def check_optimizer(wrapper: Mapping | None) -> None:
    """An optimizer has a type, or is one of several, as ``_delete_`` may have forgotten."""
    optimizer = wrapper.get('optimizer') if isinstance(wrapper, Mapping) else None
    if isinstance(optimizer, list | tuple | str | int | float):
        raise ConfigError(f'optim_wrapper.optimizer={optimizer!r}: a dict is needed')
    if not isinstance(optimizer, Mapping) or 'type' in optimizer:
        return
    if not any(isinstance(part, Mapping) for part in optimizer.values()):
        raise ConfigError(
            f'optim_wrapper.optimizer={dict(optimizer)!r}: it has no type; give one, as '
            'optim_wrapper.optimizer.type=AdamW'
        )


def check_decay(wrapper: Mapping | None) -> None:
    """Factors of the weight decay need one: mmengine does not know an optimizer's own."""
    factors = wrapper.get('paramwise_cfg') if isinstance(wrapper, Mapping) else None
    optimizer = wrapper.get('optimizer') if isinstance(wrapper, Mapping) else None
    if not isinstance(factors, Mapping) or not isinstance(optimizer, Mapping):
        return
    if optimizer.get('weight_decay') is not None:
        return
    custom = factors.get('custom_keys')
    given = list(factors) + [
        f'custom_keys.{key}.{name}'
        for key, options in (custom.items() if isinstance(custom, Mapping) else ())
        for name in options
    ]
    named = [key for key in given if key.endswith('decay_mult')]
    if named:
        raise ConfigError(
            f'optim_wrapper.optimizer.weight_decay is missing: paramwise_cfg.{named[0]} is a '
            'factor of it; give it, as optim_wrapper.optimizer.weight_decay=0.05'
        )


def _look_up(cfg: Config, path: str) -> tuple[Any, bool]:
    node: Any = dict(cfg.items())  # mmengine's Config is no Mapping
    for part in path.split('.'):
        if not isinstance(node, Mapping) or part not in node:
            return None, False
        node = node[part]
    return node, True


def buildable_nodes(cfg: Config) -> Iterator[tuple[str, Mapping, Registry, tuple[str, ...]]]:
    """``(path, dict, registry, arguments that the framework adds)`` of what will be built."""
    yield from _model_nodes(cfg['model'], 'model')
    for split in SPLITS:
        key = f'{split}_dataloader'
        loader = cfg.get(key)
        if loader is None:
            continue
        _check_loader(loader, key)
        yield from _dataset_nodes(loader.get('dataset'), f'{key}.dataset')
        for part in ('sampler', 'batch_sampler'):
            extra = ('dataset', 'seed', 'sampler', 'batch_size')
            yield from _nodes(loader.get(part), f'{key}.{part}', root.DATA_SAMPLERS, *extra)
        yield from _evaluator_nodes(cfg.get(f'{split}_evaluator'), f'{split}_evaluator')
        yield _loop_node(cfg[f'{split}_cfg'], f'{split}_cfg')
    wrapper = cfg.get('optim_wrapper')
    if wrapper is not None:
        node = {'type': 'OptimWrapper', **wrapper}
        if 'optimizer' in wrapper or 'constructor' not in wrapper:
            extra = ('optimizer', 'constructor', 'paramwise_cfg')
            yield 'optim_wrapper', node, root.OPTIM_WRAPPERS, extra
        key, optimizer = 'optim_wrapper.optimizer', wrapper.get('optimizer')
        yield from _nodes(optimizer, key, root.OPTIMIZERS, 'params')
    extra = ('optimizer', 'convert_to_iter_based', 'epoch_length')
    yield from _nodes(cfg.get('param_scheduler'), 'param_scheduler', root.PARAM_SCHEDULERS, *extra)
    yield from _nodes(cfg.get('custom_hooks'), 'custom_hooks', root.HOOKS, 'priority')
    yield from _nodes(cfg.get('visualizer'), 'visualizer', root.VISUALIZERS)
    processor = {'type': 'LogProcessor', **(cfg.get('log_processor') or {})}
    yield 'log_processor', processor, root.LOG_PROCESSORS, ()
    for name, hook in (cfg.get('default_hooks') or {}).items():
        yield from _nodes(hook, f'default_hooks.{name}', root.HOOKS, 'priority')


def _nodes(
    value: Any, path: str, registry: Registry, *injected: str
) -> Iterator[tuple[str, Mapping, Registry, tuple[str, ...]]]:
    """A dict, or the dicts of a list, which need a type; what is no dict is not ours to judge."""
    if isinstance(value, Mapping) and 'type' in value:
        yield path, value, registry, injected
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            # Of a test nothing else would see it, as a training builds none.
            if isinstance(item, Mapping | str | int | float):
                _need_type(item, f'{path}[{index}]')
            yield from _nodes(item, f'{path}[{index}]', registry, *injected)


def _evaluator_nodes(value: Any, path: str) -> Iterator[tuple]:
    """Metrics, and the evaluator that has them, if it is not the usual one."""
    if isinstance(value, Mapping) and 'metrics' in value:
        yield path, {'type': 'Evaluator', **value}, root.EVALUATOR, ()
        value, path = value['metrics'], f'{path}.metrics'
    for item in value if isinstance(value, list | tuple) else [value]:
        untyped = isinstance(item, Mapping) and 'type' not in item
        if untyped or isinstance(item, str | int | float):
            raise ConfigError(f'{path}={value!r}: metrics are needed, dicts with a type')
    yield from _nodes(value, path, root.METRICS)


def _check_inner(path: str, node: Mapping) -> None:
    """A part within the model: its arguments' kinds, and near misses of those it would ignore."""
    kind = node['type']
    module, tool = (find_class(registry, kind) for registry in INNER)
    if path.endswith(NMS) and not callable(kind):
        function = _suppression(path, kind)
        check_arguments(path, node, function)
        check_names(path, node, function, NMS_EXTRAS)
    elif callable(module):  # it says itself what it cannot take; mmcv's take old names besides
        check_arguments(path, node, module)
    elif callable(tool):
        check_arguments(path, node, tool)
        if not parameters(tool)[1]:
            check_names(path, node, tool)


def _suppression(path: str, name: object) -> Callable:
    """The function of mmcv that ``batched_nms`` calls for a name."""
    from mmcv import ops

    if name not in SUPPRESSIONS:
        hint = suggest(str(name), SUPPRESSIONS) or f'; choose from {", ".join(SUPPRESSIONS)}'
        raise ConfigError(f'{path}.type={name!r}: there is no such suppression{hint}')
    return getattr(ops, name)


def _need_type(node: Any, path: str) -> None:
    if not isinstance(node, Mapping) or 'type' not in node:
        raise ConfigError(f'{path}: a dict with a type is needed, not {node!r}')


def _model_nodes(node: Mapping, path: str) -> Iterator[tuple]:
    yield path, node, root.MODELS, ('data_preprocessor',)
    for part in MODEL_PARTS:
        given = node.get(part)
        for item in given if isinstance(given, list | tuple) else [given]:
            untyped = isinstance(item, Mapping) and 'type' not in item
            wrong = untyped and part != 'data_preprocessor'  # which has a type by default
            if wrong or isinstance(item, str | int | float | list | tuple):
                raise ConfigError(f'{path}.{part}={given!r}: a dict with a type is needed')
        if isinstance(node.get(part), Mapping) and 'type' in node[part]:
            yield from _model_nodes(node[part], f'{path}.{part}')


def _dataset_nodes(node: Any, path: str) -> Iterator[tuple]:
    _need_type(node, path)
    yield path, node, root.DATASETS, ()
    yield from _nodes(node.get('pipeline'), f'{path}.pipeline', root.TRANSFORMS)
    if 'dataset' in node:
        yield from _dataset_nodes(node['dataset'], f'{path}.dataset')
    for index, inner in enumerate(node.get('datasets') or ()):
        yield from _dataset_nodes(inner, f'{path}.datasets[{index}]')


def _loop_node(loop: Mapping, path: str) -> tuple:
    """mmengine chooses the loop by ``by_epoch`` where no type is given."""
    node = dict(loop)
    if 'max_epochs' in loop and not {'type', 'by_epoch'} & set(loop):
        raise ConfigError(f'{path}.by_epoch is missing: of max_epochs it is True')
    by_epoch = node.pop('by_epoch', True)
    if not isinstance(by_epoch, bool):
        raise ConfigError(f'{path}.by_epoch={by_epoch!r}: True or False is needed')
    if 'type' not in node:
        train = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
        node['type'] = {'train_cfg': train, 'val_cfg': 'ValLoop', 'test_cfg': 'TestLoop'}[path]
    return path, node, root.LOOPS, ('runner', 'dataloader', 'evaluator')


def _check_loader(loader: Mapping, key: str) -> None:
    known = parameters(DataLoader)[0] | set(LOADER_EXTRAS)
    for name in loader:
        if name not in known and not name.startswith('_'):
            raise ConfigError(f'{key}.{name}: no such argument of a loader{suggest(name, known)}')
        if name in LOADER_FLAGS and not isinstance(loader[name], bool):
            raise ConfigError(f'{key}.{name}={loader[name]!r}: True or False is needed')
    if 'dataset' not in loader:
        raise ConfigError(f'{key}.dataset is missing')
    if 'batch_size' not in loader and 'batch_sampler' not in loader:
        raise ConfigError(f'{key}.batch_size is missing')
    if 'sampler' not in loader:
        raise ConfigError(f"{key}.sampler is missing: dict(type='DefaultSampler', shuffle=...)")
    for part in ('sampler', 'batch_sampler'):
        given = loader.get(part)
        untyped = isinstance(given, Mapping) and 'type' not in given
        if untyped or isinstance(given, list | tuple | str | int | float):
            raise ConfigError(f'{key}.{part}={given!r}: a dict with a type is needed')


def check_neck(model: Mapping) -> None:
    """``in_channels`` of the neck must be what the backbone, if it is ours, returns."""
    backbone, neck = model.get('backbone'), model.get('neck')
    path = 'model.neck'
    if isinstance(neck, Sequence) and not isinstance(neck, str) and neck:  # the first is fed
        neck, path = neck[0], 'model.neck[0]'
    if not isinstance(backbone, Mapping) or not isinstance(neck, Mapping):
        return
    given = neck.get('in_channels')
    if not isinstance(given, int | Sequence):
        return
    maps = returned_maps(backbone)
    if maps is None:
        return
    channels, strides = maps
    if isinstance(given, int):  # of one map, which a pooling neck takes from the last
        single = has_type(neck, SINGLE_MAP_NECK)
        fits = given == channels[-1] and (len(channels) == 1 or not single)
        wanted: Any = channels[-1]
    else:
        single, fits, wanted = False, list(given) == channels, channels
    if fits:
        return
    advice = f'write in_channels={wanted}'
    if single and len(channels) > 1:
        advice += ', and out_indices=-1 in the backbone: this neck takes one map'
    raise ConfigError(
        f'{path}.in_channels={given!r}: model.backbone ({type_path(backbone["type"])}) returns '
        f'maps of {channels} channels at strides {strides}; {advice}'
    )


def returned_maps(backbone: Mapping) -> tuple[list[int], list[float]] | None:
    """Channels and strides of the maps of a backbone of ours; None of others.

    Also None where it cannot be built: that is reported when the model is.
    """
    from ...backbones import Backbone

    cls = node_class(root.MODELS, backbone)
    if cls is None or not issubclass(cls, Backbone):
        return None
    arguments = {key: value for key, value in backbone.items() if key not in ('type', 'init_cfg')}
    try:
        with torch.device('meta'):  # shapes alone
            built = cls(**arguments)
    except BUILD_ERRORS:
        return None
    strides = [round(stride, 2) for stride in built.out_strides]
    return list(built.out_channels), [int(s) if s == int(s) else s for s in strides]
