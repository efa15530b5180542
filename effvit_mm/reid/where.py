"""Which images of a gallery may be found: by camera, by time, by what else is known of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError

BEGIN, END = 'begin', 'end'  # columns of when somebody was there


@dataclass(frozen=True)
class Where:
    """A choice among the images of a gallery; what is left out does not matter.

    Attributes:
        cameras: Those of these cameras alone: a number or several.
        not_cameras: None of these.
        begin, end: Those that were there within these seconds, by the columns ``begin`` and
            ``end`` (of a moment, both are the same): from ``begin`` on, before ``end``.
        columns: What other columns must say, a value or several by name, as in
            ``{'source': ['hall.mp4', 'yard.mp4']}``: text, whole numbers, true or false.

    Raises:
        ConfigError: A value that cannot be asked for.

    Example::

        gallery.search(features, where=Where(cameras=[1, 2], begin=3600, end=7200))
    """

    cameras: int | Sequence[int] | None = None
    not_cameras: int | Sequence[int] = ()
    begin: float | None = None
    end: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ('cameras', 'not_cameras'):
            if (given := getattr(self, name)) is not None:
                numbers = several(given)
                if not all(isinstance(n, int | np.integer) for n in numbers):
                    raise ConfigError(f'where.{name}={given!r}: numbers of cameras are needed')
                object.__setattr__(self, name, tuple(map(int, numbers)))
        wanted = {}
        for name, given in self.columns.items():
            if name in (BEGIN, END):
                raise ConfigError(f'where.columns: {name!r} is no column of values, but of times')
            wanted[name] = several(given)
            if not all(is_plain(value) for value in wanted[name]):
                raise ConfigError(
                    f'where.columns[{name!r}]={given!r}: only text, whole numbers, true or false '
                    'can be asked for'
                )
        object.__setattr__(self, 'columns', wanted)

    def mask(
        self,
        camids: np.ndarray,
        times: Callable[[str], np.ndarray],
        equals: Callable[[str, list], np.ndarray],
    ) -> np.ndarray:
        """Which of N images are chosen: (N,) bool.

        Args:
            camids: (N,) their cameras.
            times: Gives a column of seconds, (N,).
            equals: Gives for a column and values whether it has one of them, (N,) bool.
        """
        chosen = np.ones(len(camids), bool)
        if self.cameras is not None:
            chosen &= np.isin(camids, self.cameras)
        if self.not_cameras:
            chosen &= ~np.isin(camids, self.not_cameras)
        if self.begin is not None:
            chosen &= (times(END) > self.begin) | (times(BEGIN) >= self.begin)
        if self.end is not None:
            chosen &= times(BEGIN) < self.end
        for name, values in self.columns.items():
            chosen &= equals(name, values)
        return chosen

    def check_columns(self, there: Iterable[str]) -> None:
        """Raise :class:`DataError` where a column is asked for that the gallery does not have."""
        there = list(there)
        timed = [BEGIN] * (self.begin is not None or self.end is not None)
        timed += [END] * (self.begin is not None)
        for name in (*timed, *self.columns):
            if name not in there:
                raise DataError(
                    f'where: the gallery has no column {name!r}; it has {sorted(there) or "none"}'
                )


def several(given: Any) -> list:
    """A value, or several, as a list."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def is_plain(value: Any) -> bool:
    """Whether it is a value for which images can be asked."""
    return isinstance(value, str | bool | int)


def key_of(value: Any) -> int:
    """A number of 64 bits that stands for a value: equal ones have the same."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    digest = hashlib.blake2b(json.dumps(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little', signed=True)
