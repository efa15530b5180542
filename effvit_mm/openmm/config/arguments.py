"""What a class of a registry can be given: found out from its constructors."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real

from mmengine.registry import Registry


def is_number(value: object) -> bool:
    """Whether this is a finite number, True and False excepted."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def node_class(registry: Registry, node: Mapping) -> type | None:
    """The class that a dict of a config builds, its ``type`` a name or the class itself."""
    kind = node.get('type')
    cls = find_class(registry, kind) if isinstance(kind, str) else kind
    return cls if isinstance(cls, type) else None


def mappings_of(value: object) -> list[Mapping]:
    """The dict, or the dicts of a list, that a key of a config holds; [] for None."""
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, Mapping)]


def dataset_nodes(value: object, path: str) -> Iterator[tuple[str, Mapping]]:
    """``(path, dict)`` of the data sets in a part of a config, those in wrappers included."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from dataset_nodes(item, f'{path}[{index}]')
    elif isinstance(value, Mapping):
        yield path, value
        for key in ('dataset', 'datasets'):
            yield from dataset_nodes(value.get(key), f'{path}.{key}')


def suggest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'lr'?"``, or nothing where nothing is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f'; did you mean {near[0]!r}?' if near else ''


def find_class(registry: Registry, name: str) -> Callable | None:
    """What ``type=name`` builds in the current default scope, or None."""
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(name)


def registered_names(registry: Registry) -> set[str]:
    """Names of the registry in the current scope and above it, for suggestions."""
    with registry.switch_scope_and_registry(None) as scoped:
        names: set[str] = set()
        current: Registry | None = scoped
        while current is not None:
            names.update(current.module_dict)
            current = current.parent
    return names


def parameters(target: Callable) -> tuple[set[str], bool]:
    """Names of the arguments of a class or function, and whether that list is certain.

    ``**kwargs`` usually goes to the base class's constructor, so those are looked through; it may
    also be meant for something else, then the list is not certain.
    """
    if not inspect.isclass(target):
        return _own_parameters(target)
    names: set[str] = set()
    certain = True
    for cls in target.__mro__:
        if '__init__' not in vars(cls):
            continue
        if cls is object:
            break
        own, closed = _own_parameters(cls.__init__)
        names |= own
        if closed:
            return names - {'self'}, certain
        certain = False
    return names - {'self'}, False


def _own_parameters(function: Callable) -> tuple[set[str], bool]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built in, without a signature
        return set(), False
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    names = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    return names, inspect.Parameter.VAR_KEYWORD not in kinds


def unknown_argument(target: Callable, given: Iterable[str], injected: Iterable[str]) -> str | None:
    """The first of ``given`` that ``target`` cannot take, if any.

    Where the list of arguments is not certain, only a near miss of a known one counts as wrong.
    """
    names, certain = parameters(target)
    names |= set(injected)
    for name in given:
        if name in names or name == 'type' or name.startswith('_'):
            continue
        if certain or difflib.get_close_matches(name, names, n=1, cutoff=0.8):
            return name
    return None
