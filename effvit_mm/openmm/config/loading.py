"""A config file read, with the overrides of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction

from ...errors import ConfigError
from ..console import import_quietly
from .checks import check_override
from .data_root import (
    NAMES,
    evaluated_files,
    follow_annotation_files,
    spread_data_root,
    spread_names,
)
from .evaluators import use_own_metrics


def load_config(path: str, overrides: Sequence[str]) -> Config:
    """Read a config file and apply ``key=value`` overrides.

    Raises:
        ConfigError: The file is missing or no config; an override is malformed or names a key that
            there cannot be.
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
        text = ' '.join(str(error).split())
        raise ConfigError(f'config {path}: {type(error).__name__}: {text}') from error
    import_quietly(cfg.get('default_scope', 'mmengine'))
    data_root, annotation_files = cfg.get('data_root'), evaluated_files(cfg)
    names = {name: cfg.get(name) for name in NAMES}
    for key, value in parse_overrides(overrides).items():
        check_override(cfg, key)
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AssertionError, IndexError, AttributeError) as error:
            text = ' '.join(str(error.args[0] if error.args else error).split())
            raise ConfigError(f'--cfg-options {key}={value}: {text}') from error
    spread_data_root(cfg, data_root)
    spread_names(cfg, names)
    follow_annotation_files(cfg, annotation_files)
    use_own_metrics(cfg)
    return cfg


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
