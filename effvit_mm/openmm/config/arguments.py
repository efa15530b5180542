"""What a class of a registry can be given: found out from its constructors."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry

from ...errors import ConfigError
from ...utils.text import suggest

# Of an argument that another type had: dicts of a base config are merged key by key.
IN_BASE = '; where a base config has it, _delete_=True in this dict leaves it out'
NEAR = 0.75  # how alike a misspelt key and the one that was meant are


def is_number(value: object) -> bool:
    """Whether this is a finite number, True and False excepted."""
    if type(value) is float:  # most are, and of some files there are millions
        return math.isfinite(value)
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # of a whole number with hundreds of digits
        return False


def node_class(registry: Registry, node: Mapping) -> type | None:
    """The class that a dict of a config builds, its ``type`` a name or the class itself."""
    cls = find_class(registry, node.get('type'))
    return cls if isinstance(cls, type) else None


def has_type(node: object, name: str) -> bool:
    """Whether this is a config dict whose ``type`` is this class, of whatever package."""
    return isinstance(node, Mapping) and type_path(node.get('type')).rpartition('.')[2] == name


def type_path(kind: object) -> str:
    """A ``type`` as text: of a class its module and name, as in configs that are written down."""
    if isinstance(kind, str):
        return kind
    return f'{kind.__module__}.{kind.__name__}' if hasattr(kind, '__name__') else str(kind)


def mappings_of(value: object) -> list[Mapping]:
    """The dict, or the dicts of a list, that a key of a config holds; [] for None."""
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, Mapping)]


def metric_nodes(value: object, path: str = '') -> Iterator[tuple[str, Mapping]]:
    """``(path, dict)`` of the metrics in a part of a config that ``Runner.build_evaluator`` takes.

    That is a metric, a list of metrics, or an evaluator, whose ``metrics`` are one of the two.
    """
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from metric_nodes(item, f'{path}[{index}]')
    elif isinstance(value, Mapping) and 'metrics' in value:
        yield from metric_nodes(value['metrics'], f'{path}.metrics')
    elif isinstance(value, Mapping):
        yield path, value


def dataset_nodes(value: object, path: str) -> Iterator[tuple[str, Mapping]]:
    """``(path, dict)`` of the data sets in a part of a config, those in wrappers included."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from dataset_nodes(item, f'{path}[{index}]')
    elif isinstance(value, Mapping):
        yield path, value
        for key in ('dataset', 'datasets'):
            yield from dataset_nodes(value.get(key), f'{path}.{key}')


def find_class(registry: Registry, kind: object) -> Callable | None:
    """What a ``type`` builds in the current default scope, itself where it is no name, or None."""
    if not isinstance(kind, str):
        return kind
    if not registry.children:  # of mmengine alone, which would warn that a scope has none
        return registry.get(kind)
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(kind)


def registered_names(registry: Registry) -> set[str]:
    """Names of the registry in the current scope and above it, for suggestions."""
    if not registry.children:
        return set(registry.module_dict)
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
    functions = [target]
    if inspect.isclass(target):
        bases = target.__mro__[:-1]  # without object
        functions = [vars(cls)['__init__'] for cls in bases if '__init__' in vars(cls)]
        if not functions and target.__new__ is object.__new__:
            return set(), True
    names: set[str] = set()
    for function in functions:
        try:
            arguments = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # built in, without a signature
            continue
        kinds = {argument.kind for argument in arguments}
        variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
        names |= {a.name for a in arguments if a.kind not in variable} - {'self'}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return names, function is functions[0]
    return names, False


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


def check_node(path: str, node: Mapping, registry: Registry, injected: Sequence[str]) -> None:
    """The type must exist in the registry and take the arguments that are given."""
    check_names(path, node, registered(f'{path}.type', node['type'], registry), injected)


def registered(path: str, kind: object, registry: Registry) -> Callable:
    """What a ``type`` builds; a ConfigError that names the key where the registry has no such."""
    found = find_class(registry, kind)
    if callable(found):
        return found
    hint = suggest(type_path(kind).rpartition('.')[2], registered_names(registry))
    if DefaultScope.get_current_instance().scope_name == 'mmengine':  # perhaps for none given
        hint = f" in default_scope='mmengine'{hint}"
    raise ConfigError(f'{path}={kind!r}: there is no such {registry.name}{hint}')


def check_names(path: str, node: Mapping, target: Callable, injected: Sequence[str] = ()) -> None:
    """Raise a ConfigError for a name among the arguments that ``target`` cannot take."""
    wrong = unknown_argument(target, node, injected)
    if wrong is not None:
        names = parameters(target)[0] - set(injected)
        raise ConfigError(
            f'{path}.{wrong}={node[wrong]!r}: {target.__name__} has no such argument'
            f'{suggest(wrong, names) or "; it takes " + (", ".join(sorted(names)) or "none")}'
            f'{"" if suggest(wrong, names) else IN_BASE}'
        )


def check_dict(node: Mapping, path: str, known: tuple[str, ...], certain: bool) -> None:
    """Refuse keys that a dict cannot have; where that is not certain, near misses alone."""
    for key in node:
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=NEAR)
        if key in known or not (certain or (near and near[0] not in node)):
            continue
        hint = suggest(key, near) or f'; it takes {", ".join(known)}'
        raise ConfigError(f'{path}.{key}={node[key]!r}: no such key{hint}')


def look_up(cfg: Config, path: str) -> Any:
    """What stands at a place of a config, as ``'env_cfg.mp_cfg'``; None where there is nothing."""
    node: Any = cfg
    for part in path.split('.'):
        node = node.get(part) if isinstance(node, Mapping | Config) else None
    return node


def kind_of(value: object) -> str:
    """The kind of a value as messages say it."""
    return 'None' if value is None else type(value).__name__


def items_within(value: Any) -> Iterator[Any]:
    """A value, or what a list holds, at any depth."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from items_within(item)
    else:
        yield value
