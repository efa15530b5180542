"""Arguments of another kind than the one that a constructor's annotations and defaults tell."""

from __future__ import annotations

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

from mmengine.registry import Registry

from ...errors import ConfigError
from .arguments import check_dict, find_class, items_within, kind_of
from .options import NAMES_OF_THINGS

COUNTED = ('num_classes',)  # of None the data set tells how many
# Of the module of mmpretrain's steps that take `policies`: what names of policies stand for.
PRESETS = ('RANDAUG_POLICIES', 'AUTOAUG_POLICIES')
# Arguments that also take a number a side, a colour, a stage or a map, whatever an annotation says.
MANY = re.compile(
    r'(indices|sizes?|shape|scales?|strides?|padding|dilations?|kernels?|pad_val|windows?)$'
)
# Of whose arguments without annotations a default that is a number tells that one is taken.
PACKAGES = ('effvit_mm', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'torch')


def check_arguments(path: str, node: Mapping, target: Callable) -> None:
    """Raise a ConfigError for an argument that cannot be of the kind that ``target`` takes.

    Its annotations say so; where it has none, a default that is a number. Texts and dicts are
    judged, numbers and lists in the place of dicts or of a file's or folder's name, and None and
    lists in the place of numbers: elsewhere the annotations of OpenMMLab are often too narrow for
    them (``loss_scale: str`` takes numbers, ``input_size: int`` two). The keys of a dict without a
    type are compared with its default's.
    """
    arguments = dict(_arguments(target))
    for name, value in node.items():
        if name not in arguments:
            continue
        owner, argument = arguments[name]
        default = argument.default
        hint = _hints(owner).get(name, argument.annotation)
        several = isinstance(value, list | tuple) and not MANY.search(name)
        wanted = _unfit(name, value, hint, default)
        if not wanted and several and _takes_one_number(owner, argument, hint):
            word = 'a number' if hint is inspect.Parameter.empty else _written(hint)
            wanted = f'{word} there, not {kind_of(value)}'
        if wanted:
            owner_name = getattr(target, '__name__', target)
            raise ConfigError(f'{path}.{name}={value!r}: {owner_name} takes {wanted}')
        plain = isinstance(value, Mapping) and 'type' not in value
        if plain and isinstance(default, Mapping):
            check_dict(value, f'{path}.{name}', tuple(default), certain=False)


def _unfit(name: str, value: Any, hint: Any, default: Any) -> str:
    """What an argument takes, where this value cannot be it; nothing where it can, or may."""
    unfit = f'{_written(hint)} there, not {kind_of(value)}'
    if isinstance(value, str | Mapping):
        if hint is not inspect.Parameter.empty:
            narrow = isinstance(default, str | Mapping) and not _fits(default, hint)
            return '' if narrow or _fits(value, hint) else unfit
        number = isinstance(default, int | float) and not isinstance(default, bool)
        return f'a number there, not {kind_of(value)}' if number else ''
    if value is None:
        free = default is None or name in COUNTED or _may_be_none(hint)
        # Where a dict has a default, None often stands for nothing of the kind: norm_cfg=None.
        kinds = (Real, tuple, Mapping) if default is inspect.Parameter.empty else (Real, tuple)
        return unfit if not free and _only(hint, *kinds) else ''
    if isinstance(value, float) and math.isinf(value) and _only(hint, int):
        return f'{_written(hint)} there, not {value}'
    if not isinstance(value, Real | list | tuple):
        return ''
    if NAMES_OF_THINGS.search(name) and _is_text(hint):
        return unfit
    for kind, word in ((Mapping, 'a dict or a list of dicts'), (Real, _written(hint))):
        others = [item for item in items_within(value) if not isinstance(item, kind)]
        if others and _only(hint, kind):
            return f'{word} there, not {others[0]!r}'
    return ''


def _takes_one_number(owner: Callable, argument: inspect.Parameter, hint: Any) -> bool:
    """Whether an argument is for a number and no list of them."""
    if hint is inspect.Parameter.empty:
        default, package = argument.default, owner.__module__.partition('.')[0]
        number = isinstance(default, int | float) and not isinstance(default, bool)
        return number and package in PACKAGES
    parts = [p for p in typing.get_args(hint) if p is not type(None)] if _is_union(hint) else [hint]
    kinds = [part for part in parts if isinstance(part, type) and part is not bool]
    return len(kinds) == len(parts) and all(issubclass(kind, Real) for kind in kinds)


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
        check_dict(given, f'{path}.hparams', tuple(sorted(known)), certain=True)


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
