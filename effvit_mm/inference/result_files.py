"""Files that results are written into as they come, and that an interrupted run goes on with."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import ConfigError
from ..utils.files import LineFile, write_text
from .results import Result
from .videos import Image

SUFFIXES = ('.csv', '.jsonl')


def check_suffix(path: Path) -> None:
    """Raise a ConfigError for a file of another kind."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f'--out {path}: a name ending in {" or ".join(SUFFIXES)} is needed')


class Row(NamedTuple):
    """What a line of a file says.

    Attributes:
        key: File and frame of its image.
        first: It is the first of its result.
        end: Bytes to the end of it, from the beginning of the file.
        cells: All of it.
    """

    key: tuple[str | None, int | None]
    first: bool
    end: int
    cells: dict[str, Any]


class ResultFile:
    """A ``.csv`` or ``.jsonl`` file of results, written line by line; a context manager.

    Args:
        path: Its name.
        kind: The results'.
        resume: Keep what a file of this name has. A line that was not written to its end goes, and
            where a result may have several rows those of the last one.
        to_line: A result as a line of ``.jsonl``; None: its ``to_json()``.
        keep_rows: Keep what the results that were there say.
        made_with: Plain values that results depend on: they are kept beside the file, as
            ``NAME.csv.model.json``, and are not to be others when it is gone on with.

    Attributes:
        kept: Results that were there.
        rows: What they say, with ``keep_rows``.

    Raises:
        ConfigError: The file is of another kind, is no such table, or was made with something else.
    """

    def __init__(
        self,
        path: str | Path,
        kind: type[Result],
        resume: bool = False,
        to_line: Callable[[Any], str] | None = None,
        keep_rows: bool = False,
        made_with: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.kind, self.made_with = Path(path), kind, made_with
        check_suffix(self.path)
        if resume and self.path.is_file():
            self._check_same()
        self.to_line = to_line or kind.to_json
        self._there: Counter = Counter()
        self.rows: list[dict[str, Any]] = []
        size = self._read(keep_rows) if resume and self.path.is_file() else None
        self.kept = sum(self._there.values())
        self._lines = LineFile(self.path, size)
        self._begun = bool(size)

    def _read(self, keep_rows: bool) -> int:
        """Count the results that are there whole; gives how many bytes of the file they take."""
        table = self.path.suffix == '.csv'
        with self.path.open('rb') as file:
            rows = _csv_rows(file, self) if table else _json_rows(file, self.path)
            size = begins = 0
            last: Row | None = None
            for row in rows:
                if not row.cells:  # the columns' names
                    size = row.end
                    continue
                if row.first:
                    begins = size
                    self._there[row.key] += 1
                if keep_rows:
                    self.rows.append(row.cells)
                size, last = row.end, row
        if last is not None and table and self.kind.NUMBERED:
            self._there[last.key] -= 1
            size = begins
        return size

    @property
    def beside(self) -> Path:
        """The file that says what the results were made with."""
        return self.path.with_name(f'{self.path.name}.model.json')

    def _check_same(self) -> None:
        if self.made_with is None or not self.beside.is_file():
            return
        try:
            before = dict(json.loads(self.beside.read_text(encoding='utf-8')))
        except (ValueError, TypeError) as error:
            raise ConfigError(f'{self.beside} cannot be read: {error}') from error
        for key, value in self.made_with.items():
            if before.get(key) != value:
                other = f'{key}={before.get(key)!r}, not {value!r}'
                raise ConfigError(
                    f'--resume: {self.path} was made with {other}; give another --out'
                )

    def done(self, image: Image) -> bool:
        """Whether the file has a result of it; each counts once."""
        key = image.name, image.frame
        if self._there[key] <= 0:
            return False
        self._there[key] -= 1
        return True

    def write(self, result: Result) -> None:
        """Add a result."""
        if not self._begun and self.made_with is not None:
            write_text(self.beside, json.dumps(dict(self.made_with), indent=1))
        if self.path.suffix == '.jsonl':
            self._lines.write(self.to_line(result))
            self._begun = True
            return
        lines = [csv_line(row) for row in result.rows()]
        if not self._begun:
            lines.insert(0, csv_line(self.kind.COLUMNS))
        self._lines.write('\n'.join(lines))
        self._begun = True

    def __str__(self) -> str:
        """What to say of it at the end: nothing where it was begun anew."""
        return f', {self.kept} more were there' if self.kept else ''

    def __enter__(self) -> ResultFile:
        self._lines.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._lines.__exit__(*error)


def csv_line(cells: Sequence[Any]) -> str:
    """A line of a table, without its end."""
    text, end = StringIO(), '\r\n'  # a name with one of these in it is quoted
    csv.writer(text, lineterminator=end).writerow(cells)
    return text.getvalue().removesuffix(end)


class _WholeLines:
    """Lines of a file that were written to their end; ``end``: bytes up to there."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.end = file, 0

    def __iter__(self) -> Iterator[str]:
        for line in self.file:
            if not line.endswith(b'\n'):
                return
            self.end += len(line)
            yield line.decode('utf-8', 'surrogateescape')


def _csv_rows(file: IO[bytes], of: ResultFile) -> Iterator[Row]:
    lines = _WholeLines(file)
    reader = csv.reader(lines, strict=True)
    columns, number = of.kind.COLUMNS, of.kind.NUMBERED
    try:
        for cells in reader:
            if reader.line_num == 1:
                if tuple(cells) != columns:
                    raise ConfigError(
                        f'--resume: {of.path} has the columns {", ".join(cells)}, not '
                        f'{", ".join(columns)}'
                    )
                yield Row(('', -1), False, lines.end, {})
                continue
            if len(cells) != len(columns):
                raise ConfigError(
                    f'--resume: {of.path}, line {reader.line_num}: {len(cells)} cells, not '
                    f'{len(columns)}'
                )
            named = dict(zip(columns, cells, strict=True))
            frame = int(named['frame']) if named['frame'] else None
            first = number is None or named[number] in ('', '1')
            yield Row((named['image'] or None, frame), first, lines.end, named)
    except csv.Error:  # a name with a line's end in it was cut in the middle
        return
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f'--resume: {of.path}, line {reader.line_num}: {error}') from error


def _json_rows(file: IO[bytes], path: Path) -> Iterator[Row]:
    lines = _WholeLines(file)
    for number, line in enumerate(lines, start=1):
        try:
            cells = json.loads(line)
            key = cells['image'], cells['frame']
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f'--resume: {path}, line {number} is no result of ours') from error
        yield Row(key, True, lines.end, cells)
