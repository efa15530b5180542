"""Values of another kind than their key's, named before anything looks into them."""

from __future__ import annotations

import difflib
import inspect
import logging
import math
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import mmengine.registry as root
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import Registry

from ...errors import ConfigError
from .arguments import dataset_nodes, find_class, is_number, suggest
from .data_root import LOADERS
from .options import NAMES_OF_THINGS

# Of the top level: kinds that a key takes, and what messages call them.
DICTS = (
    'auto_scale_lr', 'custom_imports', 'data_checks', 'data_preprocessor', 'default_hooks',
    'env_cfg', 'log_processor', 'model_wrapper_cfg', 'randomness', 'tta_model', 'visualizer',
)  # fmt: skip
LISTS = ('custom_hooks',)
TEXTS = ('data_root', 'default_scope', 'experiment_name', 'load_from', 'work_dir')
FLAGS = ('find_unused_parameters', 'resume', 'trust_checkpoint', 'use_ema')
# The same of data sets.
OF_SETS = (
    (('filter_cfg', 'metainfo'), Mapping, 'a dict'),
    (('classes_from', 'data_root'), str, 'a text'),
    (('data_prefix',), str | Mapping, 'a text or a dict'),
    (('datasets', 'pipeline'), list | tuple, 'a list'),
)
# mmengine has values of its own for these where a config has none, but takes no None.
DEFAULTED = ('default_scope', 'env_cfg', 'log_level', 'log_processor', 'randomness')
DEFAULTED_WITHIN = ('env_cfg', 'env_cfg.mp_cfg')
LEVELS = ('CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG', 'NOTSET')
# Dicts without a type: what can be in them.
PLAIN = {
    'auto_scale_lr': ('base_batch_size', 'enable'),
    'data_checks': (
        'allow_empty_classes', 'allow_other_class_names', 'allow_unknown_categories', 'coco',
    ),
    'env_cfg': ('cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'),
    'env_cfg.mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'randomness': ('deterministic', 'diff_rank_seed', 'seed'),
}  # fmt: skip
# Detectors look these up in dicts without a type.
DETECTION = {
    'model.train_cfg': (
        'allowed_border', 'assigner', 'augments', 'debug', 'mask_size', 'pos_weight', 'rcnn', 'rpn',
        'rpn_proposal', 'sampler',
    ),
    'model.test_cfg': (
        'mask_thr_binary', 'max_per_image', 'max_per_img', 'min_bbox_size', 'nms', 'nms_pre',
        'rcnn', 'rpn', 'score_thr',
    ),
}  # fmt: skip
# mmengine's constructors, and those of OpenMMLab and ours, look these up and nothing else.
PARAMWISE = (
    'bias_decay_mult', 'bias_lr_mult', 'bypass_duplicate', 'custom_keys', 'dcn_offset_lr_mult',
    'decay_rate', 'decay_type', 'dwconv_decay_mult', 'flat_decay_mult', 'layer_decay_rate',
    'norm_decay_mult', 'num_layers',
)  # fmt: skip
MULTIPLIERS = ('lr_mult', 'decay_mult')
START_METHODS = ('fork', 'spawn', 'forkserver')
# Of a dict of a hook, whatever it is called: a config may give further ones.
HOOKS = (
    'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint',
    'visualization', 'ema',
)  # fmt: skip
SHARES = (
    'prob', 'erase_prob', 'drop_path_rate', 'drop_rate', 'dropout_rate', 'attn_drop_rate',
    'label_smooth_val', 'min_area_ratio', 'max_area_ratio', 'pos_fraction',
)  # fmt: skip
PIXELS = ('mean', 'std')  # of colours
# Arguments of transforms that are a size or a border, or several to choose from.
SIZES = ('crop_size', 'img_scale', 'padding', 'scale', 'size')
CHOICES_OF_SIZES = ('scales',)
# Of the module of mmpretrain's steps that take `policies`: what names of policies stand for.
PRESETS = ('RANDAUG_POLICIES', 'AUTOAUG_POLICIES')
NEAR = 0.75
# What data sets of OpenMMLab say of themselves.
METAINFO = ('classes', 'dataset_type', 'palette', 'task_name')
# Rates and factors: of what is larger no product is meant, and soon none has a place in float32.
FACTORS = re.compile(r'(^|_)(lr|decay|decay_rate|mult|weight|momentum|factor|gamma|eta_min)$')
# Layers that are built one after the other.
LAYERS = re.compile(r'(^|_)(convs|fcs|layers|blocks|stages|depths?|outs|branches)$')
LARGEST = ((FACTORS, 1_000_000), (LAYERS, 1000))
# Of any part: a dict, or a list of them, which something looks into; and dicts alone.
PARTS = re.compile(r'(^|_)cfg$|^(augments|vis_backends)$')
SINGLE_PARTS = re.compile(r'(^|_)(assigner|sampler|bbox_coder|generator|roi_layer)$|^nms$')
COUNTED = ('num_classes',)  # of None the data set tells how many
REGISTRIES = tuple(value for value in vars(root).values() if isinstance(value, Registry))


def check_kinds(cfg: Config) -> None:
    """Raise a ConfigError for a top-level value of another kind, or a key of a plain dict that
    there is not; take out what is None where the framework has its own."""
    for key in DEFAULTED:
        if key in cfg and cfg[key] is None:
            cfg.pop(key)
    for path in DEFAULTED_WITHIN:
        group = _look_up(cfg, path)
        for key in list(group) if isinstance(group, Mapping) else ():
            if group[key] is None:
                group.pop(key)
    for keys, kind, word in (
        (DICTS, Mapping, 'a dict'), (LISTS, list | tuple, 'a list'), (TEXTS, str, 'a text'),
        (FLAGS, bool, 'True or False'),
    ):  # fmt: skip
        for key in keys:
            _need(cfg.get(key), kind, key, word)
    _check_sets(cfg)
    _check_hooks(cfg)
    level = cfg.get('log_level', 'INFO')
    if level not in LEVELS and (not isinstance(level, int) or isinstance(level, bool)):
        raise ConfigError(f'log_level={level!r}: possible are {", ".join(LEVELS)}')
    for path, known in PLAIN.items():
        _check_keys(cfg, path, known, certain=True)
    for path, known in DETECTION.items():
        _check_keys(cfg, path, known, certain=False)
        for part in ('rpn', 'rpn_proposal', 'rcnn'):
            _check_stage(cfg, f'{path}.{part}')
            _check_keys(cfg, f'{path}.{part}', known + DETECTION['model.test_cfg'], certain=False)
    _check_multipliers(_look_up(cfg, 'optim_wrapper.paramwise_cfg'))
    _check_schedule(cfg.get('param_scheduler'))
    if 'randomness' in cfg:
        cfg.randomness.setdefault('seed', None)  # mmengine's default without the dict
    method = _look_up(cfg, 'env_cfg.mp_cfg.mp_start_method')
    if method is not None and method not in START_METHODS:
        raise ConfigError(
            f'env_cfg.mp_cfg.mp_start_method={method!r}: possible are {", ".join(START_METHODS)}'
        )
    for name in cfg.get('default_hooks') or ():
        near = difflib.get_close_matches(name, HOOKS, n=1, cutoff=NEAR)
        if near and name not in HOOKS and not name.startswith(near[0]):  # logger_2 is another
            raise ConfigError(f'default_hooks.{name}: no such key{suggest(name, near)}')


def _check_schedule(schedule: Any) -> None:
    """A schedule, several, or of several optimizers a schedule or several each."""
    parts = {} if schedule is None else {'param_scheduler': schedule}
    if isinstance(schedule, Mapping) and 'type' not in schedule:
        _check_dict(schedule, 'param_scheduler', ('type',), certain=False)
        parts = {f'param_scheduler.{name}': part for name, part in schedule.items()}
    for path, part in parts.items():
        for item in part if isinstance(part, list | tuple) else [part]:
            if item is None or isinstance(item, str | int | float):
                raise ConfigError(f'{path}={part!r}: a dict or a list of dicts is needed')


def _check_multipliers(factors: Any) -> None:
    """Factors of groups of parameters are numbers, by names that something looks up."""
    if not isinstance(factors, Mapping):
        return
    path = 'optim_wrapper.paramwise_cfg'
    custom = factors.get('custom_keys')
    groups = {path: (factors, PARAMWISE)}
    for name, options in custom.items() if isinstance(custom, Mapping) else ():
        groups[f'{path}.custom_keys.{name}'] = options, MULTIPLIERS
    for place, (group, known) in groups.items():
        if not isinstance(group, Mapping):
            raise ConfigError(f'{place}={group!r}: a dict is needed, not {_kind(group)}')
        _check_dict(group, place, known, certain=False)
        for key, value in group.items():
            if str(key).endswith('_mult') and not (isinstance(value, Real) and value >= 0):
                raise ConfigError(f'{place}.{key}={value!r}: a number of at least 0 is needed')


def _check_hooks(cfg: Config) -> None:
    """A hook is a dict, or an object already; one that a config has by default may be None."""
    hooks = [(f'default_hooks.{k}', v) for k, v in (cfg.get('default_hooks') or {}).items()]
    hooks = [(path, hook) for path, hook in hooks if hook is not None]
    hooks += [(f'custom_hooks[{n}]', v) for n, v in enumerate(cfg.get('custom_hooks') or ())]
    for path, hook in hooks:
        if not isinstance(hook, Mapping | Hook):
            raise ConfigError(f'{path}={hook!r}: a dict is needed, not {_kind(hook)}')


def _check_sets(cfg: Config) -> None:
    """What is looked into, or joined to paths, before a set is built."""
    for loader in LOADERS:
        given = _look_up(cfg, f'{loader}.dataset')
        for path, node in dataset_nodes(given, f'{loader}.dataset'):
            for keys, kind, word in OF_SETS:
                for key in keys:
                    _need(node.get(key), kind, f'{path}.{key}', word)
            folders = node.get('data_prefix')
            for name, folder in folders.items() if isinstance(folders, Mapping) else ():
                _need(folder, str, f'{path}.data_prefix.{name}', 'a text')


def _need(value: Any, kind: Any, path: str, word: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise ConfigError(f'{path}={value!r}: {word} is needed, not {_kind(value)}')


def _check_stage(cfg: Config, path: str) -> None:
    """The settings of a detector's stage are a dict, of a cascade's stages a list of them."""
    stages = _look_up(cfg, path)
    for stage in stages if isinstance(stages, list | tuple) else [stages]:
        if stage is not None and not isinstance(stage, Mapping):
            raise ConfigError(f'{path}={stages!r}: a dict is needed, not {_kind(stage)}')


def _look_up(cfg: Config, path: str) -> Any:
    node: Any = cfg
    for part in path.split('.'):
        node = node.get(part) if isinstance(node, Mapping | Config) else None
    return node


def _check_keys(cfg: Config, path: str, known: tuple[str, ...], certain: bool) -> None:
    """Refuse keys that a dict cannot have; where that is not certain, near misses alone."""
    node = _look_up(cfg, path)
    if isinstance(node, Mapping):
        _check_dict(node, path, known, certain)
    elif certain and node is not None:
        raise ConfigError(f'{path}={node!r}: a dict is needed, not {_kind(node)}')


def _check_dict(node: Mapping, path: str, known: tuple[str, ...], certain: bool) -> None:
    for key in node:
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=NEAR)
        if key in known or not (certain or (near and near[0] not in node)):
            continue
        hint = suggest(key, near) or f'; it takes {", ".join(known)}'
        raise ConfigError(f'{path}.{key}={node[key]!r}: no such key{hint}')


def _kind(value: object) -> str:
    return 'None' if value is None else type(value).__name__


# Arguments -----------------------------------------------------------------------------------


def check_values(node: Any, path: str) -> None:
    """Raise a ConfigError for numbers that are none, for shares outside of 0 to 1, and for rates,
    factors and counts of layers that are infinite or beyond all use."""
    items: Any = ()
    if isinstance(node, Mapping):
        _check_colours(node, path)
        items = ((f'{path}.{key}', str(key), value) for key, value in node.items())
    elif isinstance(node, list | tuple):
        items = ((f'{path}[{index}]', '', value) for index, value in enumerate(node))
    for place, key, value in items:
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(f'{place}={value!r}: a number is needed')
        _check_part(key, value, place)
        if key in PIXELS and isinstance(value, list | tuple):
            _check_pixels(key, value, place)
        if key in (*SIZES, *CHOICES_OF_SIZES) and 'pipeline' in place:
            _check_size(value, value, place)
        for number in value if isinstance(value, list | tuple) else [value]:
            share = key in SHARES and isinstance(number, Real)
            if share and not 0 <= number <= 1:
                raise ConfigError(f'{place}={value!r}: a number from 0 to 1 is needed')
            for names, most in LARGEST if isinstance(number, Real) else ():
                if names.search(key) and abs(number) > most:
                    raise ConfigError(f'{place}={value!r}: a number of at most {most:,} is needed')
        check_values(value, place)


def _check_part(key: str, value: Any, place: str) -> None:
    """Refuse what is no dict where something looks into one."""
    if PARTS.search(key) and not all(isinstance(v, Mapping | None) for v in _items_within(value)):
        raise ConfigError(f'{place}={value!r}: a dict or a list of dicts is needed')
    if SINGLE_PARTS.search(key) and not isinstance(value, Mapping | None):
        raise ConfigError(f'{place}={value!r}: a dict is needed, not {_kind(value)}')


def check_types(node: Any, path: str) -> None:
    """Raise a ConfigError for a misspelt ``type``: its value is the name of something."""
    items: Any = ()
    if isinstance(node, Mapping):
        items = [(f'{path}.{key}', key, value) for key, value in node.items()]
    elif isinstance(node, list | tuple):
        items = [(f'{path}[{index}]', '', value) for index, value in enumerate(node)]
    for place, key, value in items:
        near = key != 'type' and difflib.get_close_matches(str(key), ('type',), cutoff=NEAR)
        if near and _is_of_a_registry(value):
            raise ConfigError(f'{place}={value!r}: no such key{suggest(key, near)}')
        check_types(value, place)


def _is_of_a_registry(value: Any) -> bool:
    if not isinstance(value, str):
        return inspect.isclass(value)
    return any(callable(find_class(registry, value)) for registry in REGISTRIES)


def check_metainfo(path: str, node: Mapping) -> None:
    """Raise a ConfigError for near misses of what a data set's ``metainfo`` is looked up for."""
    if isinstance(node.get('metainfo'), Mapping):
        _check_dict(node['metainfo'], f'{path}.metainfo', METAINFO, certain=False)


def _check_pixels(key: str, values: Sequence, place: str) -> None:
    """Images are divided by the one and have the other taken off, colour by colour."""
    for value in values:
        if not is_number(value) or (key == 'std' and value <= 0):
            word = 'numbers above 0' if key == 'std' else 'numbers'
            raise ConfigError(f'{place}={values!r}: {word} are needed, not {value!r}')


def _check_colours(node: Mapping, path: str) -> None:
    """A mean and a deviation are of the same colours, or one number of all."""
    mean, std = (node.get(key) for key in PIXELS)
    counts = [len(value) for value in (mean, std) if isinstance(value, list | tuple)]
    if len(counts) == 2 and counts[0] != counts[1] and 1 not in counts:
        raise ConfigError(
            f'{path}.std={std!r}: {counts[1]} numbers, where {path}.mean has {counts[0]}'
        )


def _check_size(item: Any, value: Any, place: str) -> None:
    """What a list of sizes or of sides holds, at any depth, is no dict and no text."""
    for inner in item if isinstance(item, list | tuple) else ():
        if isinstance(inner, Mapping | str):
            raise ConfigError(f'{place}={value!r}: numbers are needed, not {inner!r}')
        _check_size(inner, value, place)


def check_arguments(path: str, node: Mapping, target: Callable) -> None:
    """Raise a ConfigError for an argument that cannot be of the kind that ``target`` takes.

    Its annotations say so; where it has none, a default that is a number. Texts and dicts are
    judged, numbers and lists in the place of dicts or of a file's or folder's name, and None and
    lists of other things in the place of numbers: elsewhere the annotations of OpenMMLab are often
    too narrow for them (``loss_scale: str`` takes numbers). The keys of a dict without a type are
    compared with its default's.
    """
    arguments = dict(_arguments(target))
    for name, value in node.items():
        if name not in arguments:
            continue
        owner, argument = arguments[name]
        default = argument.default
        hint = _hints(owner).get(name, argument.annotation)
        if wanted := _unfit(name, value, hint, default):
            owner_name = getattr(target, '__name__', target)
            raise ConfigError(f'{path}.{name}={value!r}: {owner_name} takes {wanted}')
        plain = isinstance(value, Mapping) and 'type' not in value
        if plain and isinstance(default, Mapping):
            _check_dict(value, f'{path}.{name}', tuple(default), certain=False)


def _unfit(name: str, value: Any, hint: Any, default: Any) -> str:
    """What an argument takes, where this value cannot be it; nothing where it can, or may."""
    unfit = f'{_written(hint)} there, not {_kind(value)}'
    if isinstance(value, str | Mapping):
        if hint is not inspect.Parameter.empty:
            narrow = isinstance(default, str | Mapping) and not _fits(default, hint)
            return '' if narrow or _fits(value, hint) else unfit
        number = isinstance(default, int | float) and not isinstance(default, bool)
        return f'a number there, not {_kind(value)}' if number else ''
    if value is None:
        free = default is None or name in COUNTED or _may_be_none(hint)
        return unfit if not free and _only(hint, Real, tuple) else ''
    if not isinstance(value, Real | list | tuple):
        return ''
    if NAMES_OF_THINGS.search(name) and _is_text(hint):
        return unfit
    for kind, word in ((Mapping, 'a dict or a list of dicts'), (Real, _written(hint))):
        others = [item for item in _items_within(value) if not isinstance(item, kind)]
        if others and _only(hint, kind):
            return f'{word} there, not {others[0]!r}'
    return ''


def check_shared_arguments(path: str, node: Mapping, registry: Registry) -> None:
    """Raise a ConfigError for a key of ``hparams`` that none of a step's policies takes.

    mmpretrain gives each policy those that it has an argument for, and drops the others.
    """
    given, policies = node.get('hparams'), node.get('policies')
    if not isinstance(given, Mapping):
        return
    if isinstance(policies, str):
        module = sys.modules[find_class(registry, node['type']).__module__]
        presets = (getattr(module, name, {}) for name in PRESETS)
        policies = next((preset[policies] for preset in presets if policies in preset), None)
    kinds = (find_class(registry, part.get('type')) for part in _dicts_within(policies))
    known: set[str] = set()
    for kind in kinds:
        if inspect.isclass(kind):  # without those of its base classes, as mmpretrain does
            known.update(inspect.getfullargspec(kind.__init__).args[1:])
    if known:
        _check_dict(given, f'{path}.hparams', tuple(sorted(known)), certain=True)


def _dicts_within(value: Any) -> Iterator[Mapping]:
    """A dict, or those of lists of any depth."""
    if isinstance(value, Mapping):
        yield value
    for item in value if isinstance(value, list | tuple) else ():
        yield from _dicts_within(item)


def _arguments(target: Callable) -> Iterator[tuple[str, tuple[Callable, inspect.Parameter]]]:
    """Arguments of a function or of a class's constructors, the derived class's last."""
    functions = [target]
    if inspect.isclass(target):
        owners = reversed(target.__mro__[:-1])  # without object
        functions = [vars(cls)['__init__'] for cls in owners if '__init__' in vars(cls)]
    for function in functions:
        try:
            for argument in inspect.signature(function).parameters.values():
                yield argument.name, (function, argument)
        except (TypeError, ValueError):  # built in, without a signature
            continue


def _hints(function: Callable) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that are imported for type checkers alone, and whatever else
        logging.getLogger(__name__).debug('annotations of %s cannot be read', function)
        return {}


def _fits(value: object, hint: Any) -> bool:
    """Whether a text, dict or list can be what an annotation says; True where that is open."""
    origin = typing.get_origin(hint)
    if _is_union(hint):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return not isinstance(value, str) or value in typing.get_args(hint)
    kind = origin or hint
    if kind in (int, float, bool):
        return False
    if kind is str:
        return isinstance(value, str)
    if kind in (list, tuple):
        return isinstance(value, list | tuple)
    if kind is Sequence and set(typing.get_args(hint)) <= {int, float}:
        return isinstance(value, list | tuple)
    if isinstance(kind, type) and issubclass(kind, dict | Mapping):
        return isinstance(value, Mapping)
    return kind is not type(None)


def _only(hint: Any, *kinds: type) -> bool:
    """Whether an annotation allows these kinds, None and sequences of them, and nothing else.

    ``bool`` is no number here: any value can stand for True or False.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if parts and (_is_union(hint) or origin in (list, tuple, Sequence)):
        return all(part is Ellipsis or _only(part, *kinds) for part in parts)
    own = origin or hint
    if own is bool or not isinstance(own, type) or own is inspect.Parameter.empty:
        return False
    return own is type(None) or issubclass(own, kinds)


def _may_be_none(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def _items_within(value: Any) -> Iterator[Any]:
    """A value, or what a list holds, at any depth."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _items_within(item)
    else:
        yield value


def _is_text(hint: Any) -> bool:
    """Whether an annotation allows texts, and besides them at most None and dicts."""
    parts = typing.get_args(hint) if _is_union(hint) else (hint,)
    kinds = {typing.get_origin(part) or part for part in parts}
    return str in kinds and kinds <= {str, dict, Mapping, type(None), Path, os.PathLike}


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _written(hint: Any) -> str:
    """An annotation as messages say it."""
    text = getattr(hint, '__name__', None) if typing.get_origin(hint) is None else None
    return text or str(hint).replace('typing.', '').replace('collections.abc.', '')
