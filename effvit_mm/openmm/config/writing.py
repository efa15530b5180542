"""A config that can be read again when it has been written down."""

from __future__ import annotations

import copy
import importlib
import math
import pickle
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.config import Config

PATIENCE = 3  # seconds for another process to write yapf's grammar


class _Written(float):
    """A number that Python's text has no literal for: mmengine writes ``str(value)``."""

    def __str__(self) -> str:
        return f"float('{float(self)}')"


def readable(cfg: Config) -> Config:
    """The config itself, or where it holds ``inf`` or ``nan`` a copy to be written."""
    if not _any_open(cfg._cfg_dict):
        return cfg
    copied = copy.deepcopy(cfg)
    for key, value in copied.items():
        copied[key] = _written(value)
    return copied


def _any_open(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(map(_any_open, value))
    return isinstance(value, float) and not math.isfinite(value)


def _written(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_written, value))
    return _Written(value) if _any_open(value) else value


def import_formatter() -> ModuleType:
    """yapf, which lays out what is written, also where its cache is not whole.

    yapf 0.43 gives the file of its grammar its name before there is anything in it
    (``findings/yapf_grammar_is_named_before_it_is_written.sh``): of processes that start together
    after an installation some find it empty, and one that is killed then leaves it so for good.
    """
    last_of_all = time.monotonic() + 2 * PATIENCE
    while True:
        try:
            return importlib.import_module('yapf.yapflib.yapf_api')
        except (EOFError, pickle.UnpicklingError) as error:
            if time.monotonic() > last_of_all:
                raise
            if time.monotonic() > last_of_all - PATIENCE:
                frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
                Path(frames[-1].f_locals['filename']).unlink(missing_ok=True)
            for name in [name for name in sys.modules if name.split('.')[0].startswith('yapf')]:
                del sys.modules[name]
            time.sleep(0.05)
