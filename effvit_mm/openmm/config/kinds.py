"""Values of another kind than their key's, named before anything looks into them."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

import mmengine.registry as root
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import Registry
from mmengine.runner.priority import Priority, get_priority

from ...errors import ConfigError
from ...utils.text import suggest
from .arguments import (
    NEAR,
    check_dict,
    dataset_nodes,
    find_class,
    is_number,
    items_within,
    kind_of,
    look_up,
)
from .data_root import LOADERS

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
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
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
# The same of boxes and of fillings, and what a coder of distances divides by.
MEANS = re.compile(r'^(second_|pixel_|fill_|target_)?means?$')
DEVIATIONS = re.compile(r'^((second_|pixel_|fill_|target_)?stds?|normalizer)$')
FILLINGS = re.compile(r'(^|_)pad_val(ue)?$|^fill(_color)?$')
# What steps, readers and models of OpenMMLab and ours write of an image: of long names near misses.
META_KEYS = (
    'border', 'camid', 'caption_prompt', 'custom_entities', 'dataset_mode', 'dsetid',
    'flip_direction', 'gt_answer', 'gt_answer_weight', 'gt_bboxes', 'gt_caption', 'gt_image_id',
    'gt_label_difficult', 'gt_text_id', 'homography_matrix', 'image_id', 'image_level_labels',
    'img_id', 'img_path', 'img_shape', 'instances', 'is_matched', 'ori_shape', 'phrase_ids',
    'phrases', 'question', 'question_id', 'sample_idx', 'scale_factor', 'sent_ids', 'subset',
    'tokens_positive',
)  # fmt: skip
NEAR_META_KEY = 0.8  # others' names may be like these
# Arguments of transforms that are a size or a border, or several to choose from.
SIZES = ('crop_size', 'img_scale', 'padding', 'scale', 'size')
CHOICES_OF_SIZES = ('scales',)
# Rates and factors: of what is larger no product is meant, and soon none has a place in float32.
FACTORS = re.compile(
    r'(^|_)(lr|decay|decay_rate|mult|weight|momentum|factor|alpha|beta|gamma|eta_min)$'
)
# Layers that are built one after the other; anchors and bins of a cell.
LAYERS = re.compile(
    r'(^|_)(convs|fcs|layers|blocks|stages|depths?|outs|branches)$|^(reg_max|scales_per_octave)$'
)
# How many numbers there are of a place: the widest layer of OpenMMLab's configs has 12,544, what
# they compare an image with 65,536. Each is a row or a column of a matrix.
WIDTHS = re.compile(
    r'(^|_)(channels?|dims?|widths?|in_?planes|planes|features?|feats|filters|heads|groups|queries)$'
    r'|(^|_)(hidden|intermediate)_size$'
)
MAPS = re.compile(r'(^|_)(in|out|feat|base|hidden|embed)_(channels|dims)$')  # one or more
EXPANSIONS = re.compile(r'(^|_)((mlp|ffn|expand)_ratios?|(widen|deepen)_factor|expansion)$')
SIDES = re.compile(r'(^|_)(kernel|window|patch|img)_sizes?$')
CLASSES = re.compile(r'(^|_)num_(\w+_)?classes$')  # single heads were trained of 360,232 persons
LARGEST = (
    (FACTORS, 1_000_000), (MEANS, 1_000_000), (DEVIATIONS, 1_000_000), (FILLINGS, 1_000_000),
    (LAYERS, 1000), (WIDTHS, 100_000), (EXPANSIONS, 1000), (SIDES, 10_000), (CLASSES, 500_000),
)  # fmt: skip
# Sides, ratios and distances of the boxes or points that a detector starts from.
ANCHORS = re.compile(r'(anchor|prior|point)_generator$')
OF_ANCHORS = (
    'base_sizes', 'basesize_ratio_range', 'octave_base_scale', 'ratios', 'scales',
    'scales_per_octave', 'strides',
)  # fmt: skip
# Of any part: a dict, or a list of them, which something looks into; and dicts alone.
PARTS = re.compile(r'(^|_)cfg$|^(augments|vis_backends)$')
SINGLE_PARTS = re.compile(r'(^|_)(assigner|sampler|bbox_coder|generator|roi_layer)$|^nms$')
SUPPRESSIONS = ('nms', 'soft_nms', 'nms_rotated', 'nms_quadri')  # functions, of no registry
REGISTRIES = tuple(value for value in vars(root).values() if isinstance(value, Registry))


def check_kinds(cfg: Config) -> None:
    """Raise a ConfigError for a top-level value of another kind, or a key of a plain dict that
    there is not; take out what is None where the framework has its own."""
    for key in DEFAULTED:
        if key in cfg and cfg[key] is None:
            cfg.pop(key)
    for path in DEFAULTED_WITHIN:
        group = look_up(cfg, path)
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
    _check_multipliers(look_up(cfg, 'optim_wrapper.paramwise_cfg'))
    _check_schedule(cfg.get('param_scheduler'))
    if 'randomness' in cfg:
        cfg.randomness.setdefault('seed', None)  # mmengine's default without the dict
    for path, known in (('env_cfg.mp_cfg.mp_start_method', START_METHODS), ('launcher', LAUNCHERS)):
        value = look_up(cfg, path)
        if value is not None and value not in known:
            raise ConfigError(f'{path}={value!r}: possible are {", ".join(known)}')
    _check_smoothing(look_up(cfg, 'log_processor.custom_cfg'))
    for name in cfg.get('default_hooks') or ():
        near = difflib.get_close_matches(name, HOOKS, n=1, cutoff=NEAR)
        if near and name not in HOOKS and not name.startswith(near[0]):  # logger_2 is another
            raise ConfigError(f'default_hooks.{name}: no such key{suggest(name, near)}')


def _check_schedule(schedule: Any) -> None:
    """A schedule, several, or of several optimizers a schedule or several each."""
    parts = {} if schedule is None else {'param_scheduler': schedule}
    if isinstance(schedule, Mapping) and 'type' not in schedule:
        check_dict(schedule, 'param_scheduler', ('type',), certain=False)
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
            raise ConfigError(f'{place}={group!r}: a dict is needed, not {kind_of(group)}')
        check_dict(group, place, known, certain=False)
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
            raise ConfigError(f'{path}={hook!r}: a dict is needed, not {kind_of(hook)}')
        priority = hook.get('priority') if isinstance(hook, Mapping) else None
        try:
            get_priority('NORMAL' if priority is None else priority)
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f'{path}.priority={priority!r}: a number from 0 to 100 is needed, or one of '
                f'{", ".join(Priority.__members__)}'
            ) from error


def _check_smoothing(rows: Any) -> None:
    """Values of a log that are averaged in another way: mmengine looks for it in mid-run."""
    for index, row in enumerate(rows if isinstance(rows, list | tuple) else ()):
        path, methods = f'log_processor.custom_cfg[{index}]', HistoryBuffer()._statistics_methods
        if not isinstance(row, Mapping):
            raise ConfigError(f'{path}={row!r}: a dict is needed, not {kind_of(row)}')
        for key in ('data_src', 'method_name'):
            if key not in row:
                raise ConfigError(f'{path}.{key} is missing')
        method = row['method_name']
        if not isinstance(method, str) or method not in methods:
            raise ConfigError(f'{path}.method_name={method!r}: possible are {", ".join(methods)}')


def _check_sets(cfg: Config) -> None:
    """What is looked into, or joined to paths, before a set is built."""
    for loader in LOADERS:
        given = look_up(cfg, f'{loader}.dataset')
        for path, node in dataset_nodes(given, f'{loader}.dataset'):
            for keys, kind, word in OF_SETS:
                for key in keys:
                    _need(node.get(key), kind, f'{path}.{key}', word)
            folders = node.get('data_prefix')
            for name, folder in folders.items() if isinstance(folders, Mapping) else ():
                if folder is None:  # as mmengine takes it for the whole key alone
                    raise ConfigError(f'{path}.data_prefix.{name}=None: a text is needed')
                _need(folder, str, f'{path}.data_prefix.{name}', 'a text')


def _need(value: Any, kind: Any, path: str, word: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise ConfigError(f'{path}={value!r}: {word} is needed, not {kind_of(value)}')


def _check_stage(cfg: Config, path: str) -> None:
    """The settings of a detector's stage are a dict, of a cascade's stages a list of them."""
    stages = look_up(cfg, path)
    for stage in stages if isinstance(stages, list | tuple) else [stages]:
        if stage is not None and not isinstance(stage, Mapping):
            raise ConfigError(f'{path}={stages!r}: a dict is needed, not {kind_of(stage)}')


def _check_keys(cfg: Config, path: str, known: tuple[str, ...], certain: bool) -> None:
    """Refuse keys that a dict cannot have; where that is not certain, near misses alone."""
    node = look_up(cfg, path)
    if isinstance(node, Mapping):
        check_dict(node, path, known, certain)
    elif certain and node is not None:
        raise ConfigError(f'{path}={node!r}: a dict is needed, not {kind_of(node)}')


# Arguments -----------------------------------------------------------------------------------


def check_values(node: Any, path: str) -> None:
    """Raise a ConfigError for numbers that are none, for shares outside of 0 to 1, for what is
    infinite or beyond all use (rates, factors, layers, widths, colours), and for misspelt names of
    what is told of an image."""
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
        if key == 'normalizer' or isinstance(value, list | tuple | str | bool):
            _check_pixels(key, value, place)
        if key in (*SIZES, *CHOICES_OF_SIZES) and 'pipeline' in place:
            _check_size(value, value, place)
        if ANCHORS.search(path) and key in OF_ANCHORS:
            _check_anchors(value, place)
        if key in ('meta_keys', 'algorithm_keys'):
            _check_names(value, place)
        _check_range(key, value, place)
        if FILLINGS.search(key) and isinstance(value, Mapping):  # of the image, of its masks
            for part, number in value.items():
                _check_range(key, number, f'{place}.{part}')
        check_values(value, place)


def _check_range(key: str, value: Any, place: str) -> None:
    """A share is from 0 to 1; of other numbers there is a largest that can be meant."""
    numbers = [number for number in items_within(value) if isinstance(number, Real)]
    if key in SHARES and not all(0 <= number <= 1 for number in numbers):
        raise ConfigError(f'{place}={value!r}: a number from 0 to 1 is needed')
    if MAPS.search(key) and not all(number > 0 for number in numbers):
        raise ConfigError(f'{place}={value!r}: numbers above 0 are needed')
    for names, most in LARGEST if numbers else ():
        if names.search(key) and any(abs(number) > most for number in numbers):
            raise ConfigError(f'{place}={value!r}: a number of at most {most:,} is needed')


def _check_names(names: Any, place: str) -> None:
    """Near misses among what is told of an image: what there is not is left out without a word."""
    given = names if isinstance(names, list | tuple) else [names]
    for index, name in enumerate(given):
        near = difflib.get_close_matches(str(name), META_KEYS, n=1, cutoff=NEAR_META_KEY)
        if near and name not in META_KEYS and near[0] not in given:
            where = place if given is not names else f'{place}[{index}]'
            raise ConfigError(f'{where}={name!r}: no step writes it{suggest(name, near)}')


def _check_anchors(value: Any, place: str) -> None:
    given = [item for item in items_within(value) if item is not None]
    if not all(is_number(item) and item > 0 for item in given):
        raise ConfigError(f'{place}={value!r}: numbers above 0 are needed')


def _check_part(key: str, value: Any, place: str) -> None:
    """Refuse what is no dict where something looks into one."""
    if PARTS.search(key) and not all(isinstance(v, Mapping | None) for v in items_within(value)):
        raise ConfigError(f'{place}={value!r}: a dict or a list of dicts is needed')
    if SINGLE_PARTS.search(key) and not isinstance(value, Mapping | None):
        raise ConfigError(f'{place}={value!r}: a dict is needed, not {kind_of(value)}')


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
    known = (callable(find_class(registry, value)) for registry in REGISTRIES)
    return value in SUPPRESSIONS or any(known)


def _check_pixels(key: str, given: Any, place: str) -> None:
    """Of images and boxes the one is taken off, and they are divided by the other."""
    divides = DEVIATIONS.search(key) is not None
    several = given if isinstance(given, list | tuple) else [given]
    for value in several if divides or MEANS.search(key) else ():
        if not is_number(value) or (divides and value <= 0):
            word = 'numbers above 0' if divides else 'numbers'
            raise ConfigError(f'{place}={given!r}: {word} are needed, not {value!r}')


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
