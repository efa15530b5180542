"""Checks of a config before anything is built from it.

Each raises a :class:`ConfigError` with the key, its value and what is allowed. They see what
frameworks notice late, in a deep traceback, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import mmengine.registry as root
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry

from ...errors import ConfigError
from ...utils.text import did_you_mean, suggest
from .argument_kinds import check_arguments, check_shared_arguments
from .arguments import (
    check_names,
    check_node,
    find_class,
    has_type,
    is_number,
    mappings_of,
    node_class,
    parameters,
    registered,
    type_path,
)
from .building import BUILD_ERRORS, typed_parts
from .data_sets import check_set
from .kinds import SUPPRESSIONS, check_types, check_values
from .parts import SPLITS, buildable_nodes, need_type

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
GROUPS = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
BUILT = (
    'model', 'data_preprocessor', 'optim_wrapper', 'param_scheduler', 'custom_hooks',
    'default_hooks', 'env_cfg', 'visualizer', 'tta_pipeline',
    *(f'{split}_{part}' for split in SPLITS for part in ('dataloader', 'cfg')),
)  # fmt: skip
INNER = (root.MODELS, root.TASK_UTILS)  # modules within a model; samplers, assigners, coders
# It takes one map, of which in_channels is the width.
SINGLE_MAP_NECK = 'SimpleFeaturePyramid'
# Dicts within a model that are of a registry of their own.
INITIALISED = re.compile(r'init_cfg(\[\d+\])?(\.override(\[\d+\])?)?$')
AUGMENTS = re.compile(r'train_cfg\.augments(\[\d+\])?$')
# mmpretrain's, of one vector an image.
HEADS_OF_VECTORS = ('LinearClsHead', 'StackedLinearClsHead', 'MultiLabelLinearClsHead')
# Dicts of a suppression of overlapping boxes, and what `batched_nms` takes out of them.
NMS = ('.nms', '.nms_cfg', '.roi_nms')
NMS_EXTRAS = ('class_agnostic', 'max_num', 'split_thr')
# Of the optimizer: what a group of parameters has a factor of, and an example.
FACTORS_OF = (
    ('weight_decay', ('decay_mult',), 0.05),
    ('lr', ('lr_mult', 'layer_decay_rate', 'decay_rate', 'custom_keys'), 0.001),
)
MOST_WORKERS = 1024
WORKERS = {
    'env_cfg.mp_cfg.opencv_num_threads': 'thread',
    **{f'{split}_dataloader.num_workers': 'process' for split in SPLITS},
}

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
    **{f'{split}_dataloader.num_batch_per_epoch': (int, 1, True, True) for split in SPLITS},
    **{f'{split}_dataloader.prefetch_factor': (int, 1, True, True) for split in SPLITS},
    **{f'{split}_dataloader.timeout': (Real, 0, True, False) for split in SPLITS},
    **{f'{split}_dataloader.num_workers': (int, 0, True, False) for split in SPLITS},
}


def check_config(cfg: Config, training: bool) -> None:
    """Check keys, types of values, completeness, and the arguments of what will be built."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for key in (key for key in cfg if key in TOP_LEVEL_KEYS):
            check_types(cfg[key], key)
    need_type(cfg.get('model'), 'model')
    check_groups(cfg, training)
    check_numbers(cfg)
    check_factors(cfg.get('optim_wrapper'))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        check_optimizer(cfg.get('optim_wrapper'))
        for path, node, registry, injected in buildable_nodes(cfg):
            check_node(path, node, registry, injected)
            check_arguments(path, node, find_class(registry, node['type']))
            check_shared_arguments(path, node, registry)
            if registry is root.DATASETS:
                check_set(path, node)
            if registry is root.HOOKS and 'ema_type' in node:
                registered(f'{path}.ema_type', node['ema_type'], root.MODELS)
        for path, node in typed_parts(cfg.model, 'model'):
            _check_inner(path, node)
        for key in BUILT:
            check_values(cfg.get(key), key)
        check_pooling(cfg.model)
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
    for path, kind in WORKERS.items():
        count = _look_up(cfg, path)[0] or 0
        if count > MOST_WORKERS:
            raise ConfigError(
                f'{path}={count}: {MOST_WORKERS} or less is needed, for each is a {kind}'
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
    if not isinstance(wrapper, Mapping):
        return
    if 'constructor' in wrapper:
        name, kinds = wrapper['constructor'], root.OPTIM_WRAPPER_CONSTRUCTORS
        registered('optim_wrapper.constructor', name, kinds)
    optimizer = wrapper.get('optimizer')
    if isinstance(optimizer, list | tuple | str | int | float):
        raise ConfigError(f'optim_wrapper.optimizer={optimizer!r}: a dict is needed')
    if not isinstance(optimizer, Mapping) or 'type' in optimizer:
        return
    if not any(isinstance(part, Mapping) for part in optimizer.values()):
        raise ConfigError(
            f'optim_wrapper.optimizer={dict(optimizer)!r}: it has no type; give one, as '
            'optim_wrapper.optimizer.type=AdamW'
        )


def check_factors(wrapper: Mapping | None) -> None:
    """Factors of the rate and of the weight decay need one: mmengine does not know an optimizer's
    own."""
    factors = wrapper.get('paramwise_cfg') if isinstance(wrapper, Mapping) else None
    optimizer = wrapper.get('optimizer') if isinstance(wrapper, Mapping) else None
    if not isinstance(factors, Mapping) or not isinstance(optimizer, Mapping):
        return
    if 'type' not in optimizer:  # several
        return
    custom = factors.get('custom_keys')
    given = list(factors) + [
        f'custom_keys.{key}.{name}'
        for key, options in (custom.items() if isinstance(custom, Mapping) else ())
        for name in (options if isinstance(options, Mapping) else ())
    ]
    for key, endings, example in FACTORS_OF:
        named = [name for name in given if name.endswith(endings)]
        if named and optimizer.get(key) is None:
            raise ConfigError(
                f'optim_wrapper.optimizer.{key} is missing: paramwise_cfg.{named[0]} is a '
                f'factor of it; give it, as optim_wrapper.optimizer.{key}={example}'
            )


def _look_up(cfg: Config, path: str) -> tuple[Any, bool]:
    node: Any = dict(cfg.items())  # mmengine's Config is no Mapping
    for part in path.split('.'):
        if not isinstance(node, Mapping) or part not in node:
            return None, False
        node = node[part]
    return node, True


def _check_inner(path: str, node: Mapping) -> None:
    """A part within the model: its arguments' kinds, and near misses of those it would ignore."""
    if own := _own_registry(path):
        check_node(path, node, own, ('name', 'num_classes'))
        check_arguments(path, node, find_class(own, node['type']))
        return
    for given in mappings_of(node.get('init_cfg')):
        if 'type' not in given:
            raise ConfigError(
                f'{path}.init_cfg.type is missing beside {", ".join(given) or "nothing"}: weights '
                'of a file are of the type Pretrained'
            )
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


def _own_registry(path: str) -> Registry | None:
    """Of what is within a model, but of a kind of its own."""
    if AUGMENTS.search(path):
        from mmpretrain.registry import BATCH_AUGMENTS

        return BATCH_AUGMENTS
    return root.WEIGHT_INITIALIZERS if INITIALISED.search(path) else None


def _suppression(path: str, name: object) -> Callable:
    """The function of mmcv that ``batched_nms`` calls for a name."""
    from mmcv import ops

    if name not in SUPPRESSIONS:
        hint = suggest(str(name), SUPPRESSIONS) or f'; choose from {", ".join(SUPPRESSIONS)}'
        raise ConfigError(f'{path}.type={name!r}: there is no such suppression{hint}')
    return getattr(ops, name)


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


def check_pooling(model: Mapping) -> None:
    """Between a backbone of ours that returns maps and a head that takes vectors is a neck."""
    backbone, head = model.get('backbone'), model.get('head')
    if model.get('neck') is not None or not isinstance(head, Mapping | None):
        return
    cls = node_class(root.MODELS, head or {})
    of_vectors = cls is not None and cls.__name__ in HEADS_OF_VECTORS
    if not of_vectors or cls.__module__.partition('.')[0] != 'mmpretrain':
        return
    if not isinstance(backbone, Mapping) or backbone.get('out_type', 'featmap') != 'featmap':
        return
    if returned_maps(backbone) is not None:
        raise ConfigError(
            f'model.neck is missing: model.backbone ({type_path(backbone["type"])}) returns maps, '
            f'and model.head ({cls.__name__}) takes a vector; give it, as '
            'model.neck.type=GlobalAveragePooling'
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
