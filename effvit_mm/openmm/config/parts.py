"""What a config builds: each dict with its place and the registry that knows its type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mmengine.registry as root
from mmengine.config import Config
from mmengine.registry import Registry
from torch.utils.data import DataLoader

from ...errors import ConfigError
from ...utils.text import suggest
from .arguments import look_up, parameters

SPLITS = ('train', 'val', 'test')
MODEL_PARTS = (
    'backbone', 'neck', 'head', 'data_preprocessor', 'bbox_head', 'roi_head', 'rpn_head',
    'pooling', 'classifier', 'metric_loss',
)  # fmt: skip
# What is built below a key, a dict or a list: the registry, and what the framework adds.
OF_LOADERS = (
    ('sampler', root.DATA_SAMPLERS, 'dataset', 'seed'),
    ('batch_sampler', root.DATA_SAMPLERS, 'sampler', 'batch_size'),
    ('collate_fn', root.FUNCTIONS, 'data_batch'),
    ('worker_init_fn', root.FUNCTIONS, 'worker_id', 'num_workers', 'rank', 'seed'),
)  # fmt: skip
OF_CONFIGS = (
    ('optim_wrapper.optimizer', root.OPTIMIZERS, 'params'),
    (
        'param_scheduler', root.PARAM_SCHEDULERS, 'optimizer', 'convert_to_iter_based',
        'epoch_length',
    ),
    ('custom_hooks', root.HOOKS, 'priority'),
    ('model_wrapper_cfg', root.MODEL_WRAPPERS, 'module'),
    ('tta_model', root.MODELS, 'module'),
    ('visualizer', root.VISUALIZERS),
    ('visualizer.vis_backends', root.VISBACKENDS, 'save_dir'),
)  # fmt: skip
LOADER_FLAGS = ('drop_last', 'persistent_workers', 'pin_memory')
LOADER_EXTRAS = ('num_batch_per_epoch', 'disable_subprocess_warning')


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
        for part, registry, *extra in OF_LOADERS:
            yield from _nodes(loader.get(part), f'{key}.{part}', registry, *extra)
        yield from _evaluator_nodes(cfg.get(f'{split}_evaluator'), f'{split}_evaluator')
        yield _loop_node(cfg[f'{split}_cfg'], f'{split}_cfg')
    wrapper = cfg.get('optim_wrapper')
    if wrapper is not None:
        node = {'type': 'OptimWrapper', **wrapper}
        if 'optimizer' in wrapper or 'constructor' not in wrapper:
            extra = ('optimizer', 'constructor', 'paramwise_cfg')
            yield 'optim_wrapper', node, root.OPTIM_WRAPPERS, extra
    backends = look_up(cfg, 'visualizer.vis_backends')
    if isinstance(backends, Mapping):  # one alone
        need_type(backends, 'visualizer.vis_backends')
    for path, registry, *extra in OF_CONFIGS:
        yield from _nodes(look_up(cfg, path), path, registry, *extra)
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
                need_type(item, f'{path}[{index}]')
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


def need_type(node: Any, path: str) -> None:
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
    need_type(node, path)
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
    for part, *_ in OF_LOADERS:
        given = loader.get(part)
        untyped = isinstance(given, Mapping) and 'type' not in given
        if untyped or isinstance(given, list | tuple | str | int | float):
            raise ConfigError(f'{key}.{part}={given!r}: a dict with a type is needed')
