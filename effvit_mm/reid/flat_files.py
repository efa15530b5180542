"""Files of rows of one kind that grow at their end and are larger than memory.

How many rows count is not in the file: whoever commits them keeps the number elsewhere, in a file
that is written whole or not at all. Rows behind that number are what a killed run had begun; the
next one writes over them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import numpy as np

from ..errors import DataError, UserError

BYTES_AT_ONCE = 64 * 2**20


class FlatFile:
    """Rows of one kind, one behind the other.

    Args:
        path: The file; it is made with the first rows.
        dtype: Of a row, or of its elements.
        width: Elements of a row; None: a row is one element.
    """

    def __init__(self, path: Path, dtype: np.dtype | str, width: int | None = None) -> None:
        self.path, self.dtype = Path(path), np.dtype(dtype)
        self.shape = () if width is None else (width,)
        self.row_bytes = self.dtype.itemsize * (1 if width is None else width)

    def check(self, count: int) -> None:
        """Raise :class:`DataError` where the file has fewer than so many rows."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size < count * self.row_bytes:
            raise DataError(
                f'{self.path} is cut short: it has {size} bytes, {count} rows of {self.row_bytes} '
                'belong there'
            )

    def append(self, rows: np.ndarray, start: int) -> None:
        """Write rows as the ones from number ``start`` on, and bring them to the disk.

        Raises:
            UserError: The disk is full or the file cannot be written.
        """
        rows = np.ascontiguousarray(rows, self.dtype)
        try:
            with open(self.path, 'r+b' if self.path.exists() else 'w+b') as file:
                file.truncate(start * self.row_bytes)
                file.seek(0, os.SEEK_END)
                file.write(bytes_of(rows))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f'{self.path} cannot be written: {error.strerror or error}') from error

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows from ``start`` to ``stop``: (n, ...)."""
        rows = np.empty((stop - start, *self.shape), self.dtype)
        if rows.size:
            with self._opened() as file:
                file.seek(start * self.row_bytes)
                self._fill(file, rows)
        return rows

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Rows of some numbers: (n, ...), read one by one in the file's order."""
        rows = np.empty((len(numbers), *self.shape), self.dtype)
        with self._opened() as file:
            for place in np.argsort(numbers, kind='stable'):
                file.seek(int(numbers[place]) * self.row_bytes)
                self._fill(file, rows[place : place + 1])
        return rows

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """Number of the first row and rows, block by block."""
        step = max(1, BYTES_AT_ONCE // self.row_bytes)
        for first in range(start, stop, step):
            yield first, self.read(first, min(first + step, stop))

    def _opened(self) -> FileIO:
        return open(self.path, 'rb', buffering=0)

    def _fill(self, file: FileIO, rows: np.ndarray) -> None:
        left = bytes_of(rows)
        while len(left):
            done = file.readinto(left)
            if not done:
                raise DataError(f'{self.path} is cut short: rows are missing at its end')
            left = left[done:]


def bytes_of(rows: np.ndarray) -> memoryview:
    """The memory of rows that lie behind each other."""
    return rows.reshape(-1).view(np.uint8).data
