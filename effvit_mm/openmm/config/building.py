"""Building parts of a config: what a constructor refuses becomes an error that names the key."""

from __future__ import annotations

import copy
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os.path import expanduser, normpath
from pathlib import Path
from typing import Any

import mmengine.registry as root
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry

from ...errors import ConfigError, UserError
from ..console import without_asides

# What constructors raise for values that they cannot work with.
BUILD_ERRORS = (
    TypeError, ValueError, LookupError, AssertionError, OSError, ImportError, AttributeError,
    NotImplementedError, RuntimeError, ArithmeticError, MemoryError, NameError,
)  # fmt: skip
# Keys of files and folders, and what is said of one that is not there.
FILES = re.compile(
    r'(^|\.)(load_from|checkpoint|classes_from|split|\w*root|\w*file|\w*dir|data_prefix(\.\w+)?)$'
)
MISSING = re.compile('no such file|not exist|cannot be downloaded', re.IGNORECASE)
IN_WORKER = re.compile(r'^Caught (\w+) in DataLoader worker process')


@contextmanager
def building(cfg: Mapping | Config, *keys: str) -> Iterator[None]:
    """Around code that builds what stands below keys of a config.

    Frameworks build nested dicts themselves, and their errors do not say which was at fault: the
    parts are built anew one by one, from within, until one fails in the same way.

    ``keys`` are top-level ones, as ``'model'``. The ConfigError names path and type of the dict.
    """
    try:
        with without_asides(), naming_files(cfg, *keys):
            yield
    except UserError:
        raise
    except BUILD_ERRORS as error:
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
            parts = [part for key in keys for part in typed_parts(cfg.get(key), key)]
            path, node = next((p for p in parts if _fails_alike(*p, error)), (keys[0], {}))
        kind = node.get('type', '')
        kind = f' (type {getattr(kind, "__name__", kind)})' if kind else ''
        raise ConfigError(f'{path}{kind}: {one_line(error)}') from error


@contextmanager
def naming_files(cfg: Mapping | Config, *keys: str) -> Iterator[None]:
    """Around code that looks for files and folders of a config: of one that is missing, the key.

    An error that names one keeps its kind, and gets the key with its value in front.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        missing = [found for key in keys for found in _missing(cfg.get(key), key)]
        if not MISSING.search(text) or any(f'{place}=' in text for place, _ in missing):
            raise
        for place, name in missing:
            written = re.escape(normpath(expanduser(name)))
            said = re.search(rf'(?<![\w.-]){written}(?![\w-]|\.\w)', text)
            if said:
                raise type(error)(f'{place}={name!r}: {text}') from error
        raise


def _missing(value: Any, path: str, root: str = '') -> Iterator[tuple[str, str]]:
    """Key and text of the names of files and folders that are not there, those above first."""
    if isinstance(value, str) and value and FILES.search(path) and not Path(root, value).exists():
        yield path, value
    if isinstance(value, Mapping):
        own = value.get('data_root')
        root = own if isinstance(own, str) else root
        for key in sorted(value, key=lambda key: key != 'data_root'):
            yield from _missing(value[key], f'{path}.{key}', '' if key == 'data_root' else root)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _missing(item, f'{path}[{index}]', root)


def typed_parts(value: Any, path: str) -> Iterator[tuple[str, Mapping]]:
    """Dicts with a type, the inner ones before those that hold them."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from typed_parts(item, f'{path}.{key}')
        if 'type' in value:
            yield path, value
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from typed_parts(item, f'{path}[{index}]')


def _fails_alike(path: str, node: Mapping, error: Exception) -> bool:
    """Whether this part, built alone, raises the same error."""
    registry, arguments = _registry_of(path)
    node = {name: value for name, value in node.items() if name != 'priority'}
    try:
        registry.build(copy.deepcopy(node), default_args=arguments)
    except Exception as other:  # whatever another part raises is compared
        return type(other) is type(error) and one_line(other) == one_line(error)
    return False


def _registry_of(path: str) -> tuple[Registry, dict[str, Any]]:
    """What builds a part, and stand-ins for what frameworks add to its own arguments."""
    key = re.split(r'[.[]', path)[0]
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    if key == 'model':
        return root.MODELS, {}
    if key.endswith('_dataloader'):
        if 'sampler' in path:
            return root.DATA_SAMPLERS, {'dataset': range(64)}
        is_step = 'pipeline' in path or 'transforms' in path
        return (root.TRANSFORMS if is_step else root.DATASETS), {}
    if key == 'optim_wrapper':
        if path == key:
            return root.OPTIM_WRAPPERS, {'optimizer': optimizer}
        return root.OPTIMIZERS, {'params': parameters}
    if key == 'param_scheduler':
        return root.PARAM_SCHEDULERS, {'optimizer': optimizer, 'epoch_length': 1}
    return (root.METRICS if key.endswith('_evaluator') else root.HOOKS), {}


def one_line(error: BaseException) -> str:
    """An error's message on one line, without the wrappers' additions."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if match := IN_WORKER.match(text):
        # PyTorch packs a worker's whole traceback into the message; its end is the message.
        text = text.rsplit(f'{match[1]}: ', 1)[-1]
    text = re.sub(r'^class `?\w+`? in \S+: ', '', text)  # mmengine before 0.10.8
    text = re.sub(r'\. Please check .*', '', text, flags=re.DOTALL)
    text = ' '.join(text.split())
    if text:
        return text
    places = traceback.extract_tb(error.__traceback__)
    if not places:
        return type(error).__name__
    last = places[-1]
    return f'{type(error).__name__} at `{last.line}` ({last.filename}:{last.lineno})'
