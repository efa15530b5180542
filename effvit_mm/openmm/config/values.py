"""What a config can hold: it is written down with the run, to be read again."""

from __future__ import annotations

import ast
import re
import sys
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import PurePath
from types import FunctionType
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject

from ...errors import ConfigError
from .arguments import is_number
from .checks import TOP_LEVEL_KEYS
from .kinds import CHOICES_OF_SIZES, SIZES

IN_A_DICT = 'give dict(type=NAME, ...) with the arguments in the place of it'


def keep_plain(cfg: Config) -> None:
    """Make text of paths, in place, and leave out what a config imports or defines for itself.

    Raises:
        ConfigError: Another value that could not be read again: a ``functools.partial``, a lambda,
            an object without a literal.
    """
    root = cfg._cfg_dict
    helpers = [key for key, value in dict.items(root) if isinstance(value, FunctionType | type)]
    for key in set(helpers) - TOP_LEVEL_KEYS:
        del root[key]
    for key, holder, place, value in _values(root, ''):
        if isinstance(value, PurePath):
            holder[place] = str(value)
        elif fault := _fault(value):
            raise ConfigError(f'{key}={_short(value)}: {fault}; {IN_A_DICT}')


def make_sizes_tuples(cfg: Config) -> None:
    """Make tuples of the lists that stand for sizes in pipelines, in place.

    JSON and YAML have no tuples, and ``--cfg-options`` makes lists of what is typed with commas;
    some transforms take two numbers as a tuple alone.
    """
    for key, holder, place, value in _lists(cfg._cfg_dict, ''):
        if not re.search(r'(^|[._])pipeline\.', key):
            continue
        argument = re.sub(r'\.\d+$', '', key).rpartition('.')[2]
        inner = isinstance(holder, list)
        if argument in SIZES or (argument in CHOICES_OF_SIZES and inner):
            holder[place] = tuple(value)


def _lists(node: Any, path: str) -> Iterator[tuple[str, Any, Any, list]]:
    """Key, holder, place in it, and value of all lists of numbers."""
    for key, holder, place, value in _items(node, path):
        if isinstance(value, list) and value and all(map(is_number, value)):
            yield key, holder, place, value
        else:
            yield from _lists(value, key)


def _values(node: Any, path: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """Key, holder, place in it, and value of all that is no dict and no list."""
    for key, holder, place, value in _items(node, path):
        if isinstance(value, dict | list):
            yield from _values(value, key)
        else:
            yield key, holder, place, value


def _items(node: Any, path: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """Key, holder, place in it, and value of what is in a dict or a list; nothing of others."""
    items: Any = ()
    if isinstance(node, dict):
        items = list(dict.items(node))  # the config's own would import what it names
    elif isinstance(node, list):
        items = list(enumerate(node))
    for place, value in items:
        yield (f'{path}.{place}' if path else str(place)), node, place, value


def _fault(value: Any) -> str:
    """Why a value cannot be written down and read again; nothing where it can."""
    if isinstance(value, LazyObject | LazyAttr):  # the name of something in a package
        return ''
    if isinstance(value, partial):
        return 'a functools.partial cannot be written down with the config'
    name = getattr(value, '__qualname__', None)
    if name is not None and getattr(value, '__module__', None) in sys.modules:
        known = '<' not in name
    elif name is None:
        known = _is_literal(value)
    else:
        known = False
    return '' if known else 'it cannot be written down with the config and read again'


def _is_literal(value: Any) -> bool:
    if isinstance(value, str | bytes | int | float | None):
        return True
    try:
        ast.parse(str(value), mode='eval')  # as mmengine writes it
    except (SyntaxError, ValueError):
        return False
    return True


def _short(value: Any) -> str:
    text = ' '.join(str(value).split())
    return text if len(text) <= 60 else f'{text[:57]}...'


def called_import(error: Exception, path: str) -> str:
    """What to say where a config that imports lazily calls what it imports; else nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    lazy = frames and frames[-1].filename.endswith('lazy.py')
    if not isinstance(error, RuntimeError) or str(error) or not lazy:
        return ''
    lines = [frame.lineno for frame in frames if frame.filename == path]
    where = f', line {lines[-1]}' if lines else ''
    return f'config {path}{where}: it calls what it imports, of which it has the name alone'
