"""A config file read, with the overrides of a command line."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from ...errors import ConfigError
from ..console import import_quietly
from .arguments import mappings_of
from .building import one_line
from .checks import check_override
from .data_root import EVALUATORS, follow_annotation_files
from .names import follow_assignments, is_name, set_names
from .options import look_up, read_value, split_option
from .own_parts import use_own_readers

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
        cfg = follow_assignments(Config.fromfile(path), path)
    except ConfigError:
        raise
    except SyntaxError as error:
        raise ConfigError(
            f'config {path}, line {error.lineno}: {error.msg}: {(error.text or "").strip()}'
        ) from error
    except Exception as error:  # a config is a program: it can raise anything
        text = f'{type(error).__name__}: {error}'
        raise ConfigError(f'config {path}: {" ".join(text.split())}') from error
    import_quietly(cfg.get('default_scope', 'mmengine'))
    before = copy.deepcopy(cfg)
    options = [split_option(item) for item in overrides]
    for key, _ in options:
        check_override(cfg, key)
    cfg = set_names(cfg, path, [option for option in options if is_name(option[0])])
    for key, text in (option for option in options if not is_name(option[0])):
        value = read_value(key, text, look_up(before, key))
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AssertionError, IndexError, AttributeError) as error:
            raise ConfigError(f'--cfg-options {key}={value}: {one_line(error)}') from error
    follow_annotation_files(cfg, before)
    use_own_metrics(cfg)
    use_own_readers(cfg)
    return cfg


def use_own_metrics(cfg: Config) -> None:
    """Let ``effvit_mm``'s detection metrics stand for mmdet's of the same names and figures."""
    for node in (node for key in EVALUATORS for node in mappings_of(cfg.get(key))):
        kind = node.get('type')
        if isinstance(kind, type):
            kind = f'{kind.__module__.partition(".")[0]}.{kind.__name__}'
        scope, _, name = str(kind).rpartition('.')
        if name in OWN_METRICS and (scope or cfg.get('default_scope')) == 'mmdet':
            node['type'] = f'effvit_mm.{name}'
