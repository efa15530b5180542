"""A config that can be read again when it has been written down."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config


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
