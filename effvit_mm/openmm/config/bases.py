"""A config whose ``_base_`` is not there, as that of a copy in another folder."""

from __future__ import annotations

import difflib
import os
import re
import traceback
from pathlib import Path

from mmengine.config.utils import ConfigParsingError

from ...utils.text import did_you_mean

# Functions of mmengine's in which a base that is not there ends the reading.
SEARCHES = ('_is_lazy_import', 'check_file_exist', '_parse_lazy_import')
NOT_THERE = re.compile(r'^file "(.+)" does not exist$|^(.+?) not found!')


def missing_base(error: Exception, path: str) -> str | None:
    """What to say of an error of a config that comes of a base that is not there; None of others.

    Args:
        error: What reading the config has raised.
        path: The config, which is there.
    """
    last = traceback.extract_tb(error.__traceback__)[-1].name
    if not isinstance(error, FileNotFoundError | ConfigParsingError) or last not in SEARCHES:
        return None
    found = NOT_THERE.match(str(error))
    name = getattr(error, 'filename', None) or (found and (found[1] or found[2]))
    if not name:
        return None
    file = Path(os.path.abspath(name))
    near = difflib.get_close_matches(file.name, (p.name for p in file.parent.glob('*.py')), n=1)
    if near:
        return f'its _base_ {file} is not there{did_you_mean(str(file.with_name(near[0])))}'
    return (
        f'its _base_ {file} is not there, as in a copy of a config; write in its place '
        f'_base_ = {_shipped(Path(path).name)!r} and what differs'
    )


def _shipped(name: str) -> str:
    """The config of this name that came with the package, or what stands for it."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package.parent, package / '.mim'):
        for file in sorted(folder.glob(f'configs/*/{name}')):
            return str(file)
    return '/path/of/the/original.py'
