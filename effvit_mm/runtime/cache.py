"""Compiled files, kept under the user's cache folder and found again by what they were made of."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError

logger = logging.getLogger(__name__)

DESCRIPTION = 'entry.json'
PACKAGE = Path(__file__).resolve().parents[1]
VALUES = (bool, int, float, str, type(None))


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/effvit_mm/compiled``, by default below ``~/.cache``."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'effvit_mm' / 'compiled'


def find_or_make(
    folder: Path, key: str, make: Callable[[Path], Mapping[str, Any]]
) -> tuple[Path, dict[str, Any]]:
    """The folder of an entry, and what its maker said of it.

    An entry is whole or not there; one that was changed or cut short since is made anew.

    Args:
        folder: Of the cache; it is there and can be written.
        key: :func:`entry_key` of what the files are made of.
        make: Writes the files of an entry into an empty folder; what it returns is kept as JSON.

    Raises:
        UserError: The cache cannot be written.
    """
    entry = folder / key
    if entry.exists():
        description = _read(entry, key)
        if description is not None:
            return entry, description
        logger.warning('%s is damaged, or of another network: it is made anew', entry)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix='.made-') as work:
            made = Path(work) / key
            made.mkdir()
            description = dict(make(made))
            files = {path.name: _digest([path]) for path in sorted(made.iterdir())}
            content = {'key': key, 'files': files, 'description': description}
            (made / DESCRIPTION).write_text(json.dumps(content, indent=1))
            if entry.exists():
                entry.rename(Path(work) / 'replaced')
            made.rename(entry)
    except OSError as error:
        if _read(entry, key) is None:  # else another process was there first
            raise UserError(f'{entry} cannot be written: {error.strerror or error}') from error
    return entry, json.loads((entry / DESCRIPTION).read_text())['description']


def _read(entry: Path, key: str) -> dict[str, Any] | None:
    """What was said of an entry; None where its files are not what was written."""
    try:
        content = json.loads((entry / DESCRIPTION).read_text())
        whole = content['key'] == key and all(
            _digest([entry / name]) == digest for name, digest in content['files'].items()
        )
        return content['description'] if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def entry_key(network: nn.Module, packages: Iterable[str], **settings: Any) -> str:
    """A name for what is made of a network: equal where all that it depends on is.

    Args:
        network: Its weights, its modules' options and the source files of their classes count.
        packages: Names of the packages whose versions count.
        settings: What else counts: sizes, precision.
    """
    digest = hashlib.sha256()
    sources = set(PACKAGE.rglob('*.py'))
    for name, module in network.named_modules():
        options = {
            key: getattr(value, '__qualname__', value)
            for key, value in vars(module).items()
            if _is_plain(value)
        }
        digest.update(repr((name, type(module).__qualname__, sorted(options.items()))).encode())
        sources.add(Path(inspect.getfile(type(module))))
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        bytes_ = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(bytes_.numpy().data)
    versions = {name: metadata.version(name) for name in sorted(packages)}
    digest.update(repr((versions, platform.machine(), sorted(settings.items()))).encode())
    digest.update(_digest(sorted(sources)).encode())
    return digest.hexdigest()[:40]


def _is_plain(value: Any) -> bool:
    """Whether a module's attribute is an option: numbers and names, and tuples of these."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    return isinstance(value, VALUES) or inspect.isroutine(value)


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
