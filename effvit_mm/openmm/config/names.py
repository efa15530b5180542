"""Names that a config file defines for its own use, given other values."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from ...errors import ConfigError
from .building import one_line
from .checks import TOP_LEVEL_KEYS
from .data_root import follow_annotation_files, spread_data_root, spread_names
from .options import check_path, look_up, read_value
from .source import ConfigFile, Edit, read_edited, read_files

# Names of OpenMMLab's configs that stand at the top level, but are read by nothing there.
VARIABLES = {
    'backend_args', 'data_preprocessor', 'data_root', 'dataset_type', 'test_pipeline',
    'train_pipeline', 'val_pipeline',
}  # fmt: skip


def is_name(key: str) -> bool:
    """Whether an override begins with a name for the file's own use."""
    first = key.split('.', 1)[0]
    return first not in TOP_LEVEL_KEYS or first in VARIABLES


def follow_assignments(cfg: Config, path: str) -> Config:
    """Bring what a derived config assigns, and nothing reads there, to the base that reads it.

    ``train_annotations = 'mine.json'`` behind ``_base_ = 'coco_folder.py'`` would else change
    nothing: the base's data sets were made with the base's name.

    Raises:
        ConfigError: A base made its parts with another value, and this one cannot be given to it.
    """
    root = read_files(path)
    edits = _inherited(root, cfg) if root else []
    return read_edited(root, edits) if edits else cfg


def set_names(cfg: Config, path: str, options: Sequence[tuple[str, str]]) -> Config:
    """The config with other values of names, followed to where they were used.

    Args:
        cfg: As :func:`follow_assignments` gave it.
        path: Its file.
        options: ``(key, text)`` of overrides whose keys begin with such names.

    Raises:
        ConfigError: A name that has no effect; the message says which key has.
    """
    root = read_files(path) if options else None
    edits = _inherited(root, cfg) if root else []
    for key, text in options:
        name, *parts = key.split('.')
        check_path(cfg, key)
        value, old = read_value(key, text, look_up(cfg, key)), cfg.get(name)
        try:
            changed = _merged(cfg, key, value)
            files = list(root.assignments(name)) if root else []
            if files:
                statement = f'{name}{_subscripts(old, parts)} = {_source(value)}'
                edits += [(file, Edit(name, statement, bool(parts))) for file in files]
                changed = _merged(read_edited(root, edits), key, value)
        except Exception as error:  # a config is a program: it can raise anything
            raise ConfigError(f'--cfg-options {key}={text}: {one_line(error)}') from error
        spread_data_root(changed, cfg.get('data_root'))
        spread_names(changed, cfg)
        follow_annotation_files(changed, cfg)
        if changed[name] != old and _built(changed) == _built(cfg):
            _refuse_unused(cfg, root, key, text)
        cfg = changed
    return cfg


def _inherited(root: ConfigFile, cfg: Config) -> list[tuple[ConfigFile, Edit]]:
    """What derived files assign for their bases alone."""
    used = set().union(*(file.used for file in root.files()))
    edits = []
    for name in sorted(set().union(*(file.bound for file in root.files())) & used):
        files = list(root.assignments(name))
        if len(files) < 2 or not is_name(name) or name not in cfg:
            continue
        try:
            statement = f'{name} = {_source(cfg[name])}'
        except ValueError as error:
            raise ConfigError(
                f'config {files[0].path}: {name} is assigned, but read in {files[1].path} alone, '
                f'whose parts were made with its own, and {error} cannot be brought there; assign '
                'the parts themselves, as train_dataloader=dict(...)'
            ) from error
        edits += [(file, Edit(name, statement, False)) for file in files[1:]]
    return edits


def _source(value: Any) -> str:
    """A value as Python writes it; ValueError for what is no number, text, list or dict."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, Mapping):
        return '{' + ', '.join(f'{key!r}: {_source(item)}' for key, item in value.items()) + '}'
    if isinstance(value, list | tuple):
        items = ''.join(f'{_source(item)}, ' for item in value)
        return f'[{items}]' if isinstance(value, list) else f'({items})'
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    raise ValueError(getattr(value, '__name__', repr(value)))


def _subscripts(value: Any, parts: Sequence[str]) -> str:
    """``['a', '0']`` as ``['a'][0]`` where the value has a list at ``a``."""
    text = ''
    for part in parts:
        index = int(part) if isinstance(value, list) else part
        text += f'[{index!r}]'
        value = look_up({'value': value}, f'value.{part}')
    return text


def _merged(cfg: Config, key: str, value: Any) -> Config:
    merged = copy.deepcopy(cfg)
    merged.merge_from_dict({key: value})
    return merged


def _built(cfg: Config) -> dict:
    """What a config says to frameworks and tools."""
    built = {key: value for key, value in cfg.items() if not is_name(key)}
    if 'data_preprocessor' not in (cfg.get('model') or {}):  # the runner gives it to the model
        built['data_preprocessor'] = cfg.get('data_preprocessor')
    return built


def _refuse_unused(cfg: Config, root: ConfigFile | None, key: str, text: str) -> None:
    """Raise where parts were made with a name, none of which follow it."""
    name = key.split('.', 1)[0]
    rest = key[len(name) :]
    if name not in cfg:
        raise ConfigError(
            f'--cfg-options {key}={text}: has no effect, since the config has no {name}; give the '
            'key of the part, as val_dataloader.dataset.pipeline'
        )
    places = list(places_of(_built(cfg), cfg[name]))
    if places:
        keys = ' '.join(f'{place}{rest}={text}' for place in places)
        raise ConfigError(
            f'--cfg-options {key}={text}: has no effect, since the config has the value of '
            f'{name} in its parts; give {keys}'
        )
    if root is not None and any(name in file.used for file in root.files()):
        raise ConfigError(
            f'--cfg-options {key}={text}: has no effect, since {name} is in no part of the config '
            'that is built; give the key of the part, as train_dataloader.dataset.pipeline'
        )


def places_of(node: Any, value: Any, path: str = '') -> Iterator[str]:
    """Keys below which a config has this value: a dict, a list or a text."""
    if not value or not isinstance(value, Mapping | list | tuple | str):
        return
    if path and type(node) is type(value) and node == value:
        yield path
        return
    items = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list | tuple):
        items = enumerate(node)
    for key, item in items:
        yield from places_of(item, value, f'{path}.{key}' if path else str(key))
