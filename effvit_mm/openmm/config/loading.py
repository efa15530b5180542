"""A config file read, with the overrides of a command line."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config, DictAction

from ...errors import ConfigError
from ..console import import_quietly
from .arguments import mappings_of
from .building import one_line
from .checks import check_override
from .data_root import EVALUATORS, follow_annotation_files, spread_data_root, spread_names
from .own_sets import use_own_sets

# mmdet's metrics of which effvit_mm has its own, which keep what they computed.
OWN_METRICS = ('CocoMetric', 'FasterCocoMetric', 'VOCMetric')


def load_config(path: str, overrides: Sequence[str]) -> Config:
    """Read a config file and apply ``key=value`` overrides.

    The file's faults, and overrides of keys that there cannot be, are ConfigErrors.
    """
    if not Path(path).is_file():
        raise ConfigError(f'config {path}: no such file')
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ConfigError(f'config {path}: a .py, .json or .yaml file is needed')
    try:
        cfg = Config.fromfile(path)
    except SyntaxError as error:
        raise ConfigError(
            f'config {path}, line {error.lineno}: {error.msg}: {(error.text or "").strip()}'
        ) from error
    except Exception as error:  # a config is a program: it can raise anything
        text = f'{type(error).__name__}: {error}'
        raise ConfigError(f'config {path}: {" ".join(text.split())}') from error
    import_quietly(cfg.get('default_scope', 'mmengine'))
    before = copy.deepcopy(cfg)
    for key, value in parse_overrides(overrides).items():
        check_override(cfg, key)
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AssertionError, IndexError, AttributeError) as error:
            raise ConfigError(f'--cfg-options {key}={value}: {one_line(error)}') from error
    spread_data_root(cfg, before.get('data_root'))
    spread_names(cfg, before)
    follow_annotation_files(cfg, before)
    use_own_metrics(cfg)
    use_own_sets(cfg)
    return cfg


def use_own_metrics(cfg: Mapping) -> None:
    """Let ``effvit_mm``'s detection metrics stand for mmdet's of the same names and figures."""
    for node in (node for key in EVALUATORS for node in mappings_of(cfg.get(key))):
        kind = node.get('type')
        if isinstance(kind, type):
            kind = f'{kind.__module__.partition(".")[0]}.{kind.__name__}'
        scope, _, name = str(kind).rpartition('.')
        if name in OWN_METRICS and (scope or cfg.get('default_scope')) == 'mmdet':
            node['type'] = f'effvit_mm.{name}'


def parse_overrides(overrides: Sequence[str]) -> dict:
    """``['a.b=1']`` to ``{'a.b': 1}``, with mmengine's rules for values."""
    result = {}
    for item in overrides:
        key, separator, value = item.partition('=')
        if not separator or not key:
            raise ConfigError(f'--cfg-options {item}: KEY=VALUE is needed')
        try:
            result[key] = DictAction._parse_iterable(value)
        except AssertionError as error:
            raise ConfigError(f'--cfg-options {item}: brackets do not match') from error
    return result
