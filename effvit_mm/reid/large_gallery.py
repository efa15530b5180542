"""A gallery that is larger than memory: a folder of files that grow at their end.

Features are kept as float16 on the disk; in memory are short codes of them, which give candidates,
and few numbers of each image. What is found is ranked by the distances to the features on the disk.
A file that is written whole or not at all says how many rows of the others count: what was
confirmed is there after a kill at any moment, and what was not, is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from ..utils.files import check_writable, write_text
from .distances import FeatureSpace, check_distance
from .features import ReIDFeatures
from .flat_files import FlatFile
from .gallery_checks import (
    check_cameras,
    check_columns,
    check_count,
    check_features,
    check_identity,
    check_numbers,
    check_search,
)
from .large_index import LargeIndex, Tell
from .where import BEGIN, END, Where, key_of

FILE_KIND = 'effvit_mm large re-ID gallery'
STATE = 'gallery.json'
HEADER = ('width', 'model', 'distance', 'preparation')
COUNTS = ('count', 'slots', 'dead', 'text')
SMALL = 20_000  # images of a gallery that needs no index
FEW = 4096  # images that are left to be found: so many are compared one by one
CANDIDATES = 400  # compared exactly, at least four times what is asked for
LISTS = 32  # looked through for a query; more where few images may be found
LARGEST = float(np.finfo(np.float16).max)
ROUNDING = 1e-5  # of distances in large products, of the features' squared lengths

Found = tuple[np.ndarray, np.ndarray]  # slots and their distances


class LargeGallery:
    """Images of people in a folder, as in a :class:`Gallery`; made by ``create`` or ``open``.

    One process at a time writes. Until :meth:`build` was called, and of what was added after it,
    all features are read for a search.

    Attributes:
        folder: The folder.
        width, model, distance, preparation: As of a :class:`Gallery`.
        count: How many numbers were given.
    """

    index = 'large'

    def __init__(self, folder: str | Path, state: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.width, self.model, self.distance, self.preparation = (state[n] for n in HEADER)
        self.count = state['count']
        self._columns: list[str] | None = state['columns']
        self._slots, self._dead, self._text_end = state['slots'], state['dead'], state['text']
        self._vectors = FlatFile(self.folder / 'features.f16', np.float16, self.width)
        self._text = FlatFile(self.folder / 'names.jsonl', np.uint8)
        self._gone = FlatFile(self.folder / 'deleted.i64', np.int64)
        self._index = LargeIndex(self.folder, self.width)
        self._loaded: dict[str, list[np.ndarray]] = {}
        self._last_choice: tuple[Where | None, int, np.ndarray] = None, 0, np.empty(0, bool)
        for file, rows in (
            (self._vectors, self._slots),
            (self._rows, self._slots),
            (self._text, self._text_end),
            (self._gone, self._dead),
        ):
            file.check(rows)
        if self._index.coded > self._slots:
            raise DataError(
                f'gallery {self.folder}: its parts do not belong together: {self._slots} vectors, '
                f'{self._index.coded} codes'
            )
        self._alive = np.ones(self._slots, bool)
        self._alive[self._gone.read(0, self._dead)] = False
        self._slot_of = np.full(self.count, -1)
        there = np.flatnonzero(self._alive)
        self._slot_of[self._field('number')[there]] = there

    # Files -------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: str | Path,
        width: int,
        model: str = '',
        *,
        distance: str = 'cosine',
        preparation: str = '',
    ) -> LargeGallery:
        """An empty one in a folder that has none yet; arguments are those of :class:`Gallery`.

        Raises:
            ConfigError: An argument that cannot be; the folder has a gallery.
        """
        check_distance(distance)
        if width < 1:
            raise ConfigError(f'width={width}: must be 1 or more')
        folder = Path(folder)
        check_writable(folder, f'gallery {folder}')
        if (folder / STATE).exists():
            raise ConfigError(f'gallery {folder}: there is one already')
        state = dict(zip(HEADER, (width, model, distance, preparation), strict=True))
        gallery = cls(folder, {**state, 'columns': None, **dict.fromkeys(COUNTS, 0)})
        gallery._commit()
        return gallery

    @classmethod
    def open(cls, folder: str | Path, *, model: str = '', width: int | None = None) -> LargeGallery:
        """The gallery of a folder.

        Args:
            folder: The folder.
            model: Refuse a gallery of a model with another identity.
            width: Refuse features of another width.

        Raises:
            DataError: There is none, a file of it is broken, or it is of another model or width;
                the message names the file and what it found.
        """
        gallery = cls(folder, read_state(Path(folder) / STATE))
        check_identity(folder, (gallery.width, gallery.model), width, model)
        return gallery

    def _commit(self) -> None:
        state = {
            'kind': FILE_KIND,
            **{name: getattr(self, name) for name in HEADER},
            'columns': self._columns,
            **dict(zip(COUNTS, self._counts(), strict=True)),
        }
        write_text(self.folder / STATE, json.dumps(state))

    def _counts(self) -> tuple[int, ...]:
        return self.count, self._slots, self._dead, self._text_end

    def _check_own(self) -> None:
        """Raise :class:`DataError` where another process has written to the folder."""
        state = read_state(self.folder / STATE)
        if tuple(state[name] for name in COUNTS) != self._counts():
            raise DataError(f'gallery {self.folder} was changed by another process: open it again')

    @property
    def _keyed(self) -> list[str]:
        """Columns that can be asked for by their values."""
        return [name for name in self._columns or () if name not in (BEGIN, END)]

    @property
    def _rows(self) -> FlatFile:
        """What is known of each slot, as numbers; of text the key by which it is asked for."""
        names = ['number', 'pid', 'camid', 'text', *map(key_name, self._keyed)]
        kinds = [(name, '<i8') for name in names] + [(BEGIN, '<f8'), (END, '<f8')]
        return FlatFile(self.folder / 'rows.bin', np.dtype(kinds))

    def _field(self, name: str) -> np.ndarray:
        """One number of each slot: (slots,)."""
        if name not in self._loaded:
            blocks = (rows[name].copy() for _, rows in self._rows.blocks(0, self._slots))
            empty = np.empty(0, np.float64 if name in (BEGIN, END) else np.int64)
            self._loaded[name] = [empty, *blocks]
        parts = self._loaded[name]
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        return parts[0]

    # Changing ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self._alive.sum())

    def add(
        self, features: ReIDFeatures, columns: Mapping[str, Sequence[Any]] | None = None
    ) -> np.ndarray:
        """Add images at the end, as :meth:`Gallery.add`; when it returns, they are on the disk."""
        numbers = np.arange(self.count, self.count + len(features))
        self._write(numbers, features, columns, np.empty(0, np.int64))
        return numbers

    def update(
        self,
        numbers: Sequence[int],
        features: ReIDFeatures,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Put other images in the place of some, as :meth:`Gallery.update`."""
        numbers = self._there(numbers)
        check_count(numbers, features)
        self._write(numbers, features, columns, self._slot_of[numbers])

    def delete(self, numbers: Sequence[int]) -> None:
        """Take images out, as :meth:`Gallery.delete`; the files keep their size."""
        numbers = self._there(numbers)
        self._check_own()
        slots = self._slot_of[numbers]
        self._gone.append(slots, self._dead)
        self._dead += len(slots)
        self._commit()
        self._alive[slots], self._slot_of[numbers] = False, -1

    def _write(
        self,
        numbers: np.ndarray,
        features: ReIDFeatures,
        columns: Mapping[str, Sequence[Any]] | None,
        replaced: np.ndarray,
    ) -> None:
        """Features and rows behind those that are there, in the place of the slots ``replaced``."""
        check_features(features, self.width, self.model, self.preparation)
        columns = check_columns(columns, len(features), self._columns if self.count else None)
        ready = FeatureSpace(features.features, self.distance).features.numpy()
        if len(ready) and (largest := np.abs(ready).max()) > LARGEST:
            raise DataError(
                f'{features.source}: a feature of {largest:g} is larger than float16 holds '
                f'({LARGEST:g}), in which the gallery keeps them'
            )
        self._check_own()
        self._columns = sorted(columns)
        rows, text = self._rows_of(numbers, features, columns)
        start, dead = self._slots, self._dead
        self._vectors.append(ready, start)
        self._rows.append(rows, start)
        self._text.append(text, self._text_end)
        self._gone.append(replaced, dead)
        self.preparation = self.preparation or features.preparation
        self.count = max(self.count, int(numbers.max(initial=-1)) + 1)
        self._slots, self._dead = start + len(rows), dead + len(replaced)
        self._text_end += len(text)
        self._commit()
        for name, parts in self._loaded.items():
            parts.append(rows[name].copy())
        self._alive = np.append(self._alive, np.ones(len(rows), bool))
        self._alive[replaced] = False
        self._slot_of = np.append(self._slot_of, np.full(self.count - len(self._slot_of), -1))
        self._slot_of[numbers] = np.arange(start, self._slots)

    def _rows_of(
        self, numbers: np.ndarray, features: ReIDFeatures, columns: dict[str, list[Any]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows for the file, and the bytes of their text."""
        paths = list(features.paths) or [''] * len(features)
        lines = [
            plain_text([path, dict(zip(columns, values, strict=True))]).encode() + b'\n'
            for path, *values in zip(paths, *columns.values(), strict=True)
        ]
        rows = np.zeros(len(numbers), self._rows.dtype)
        rows['number'], rows['pid'], rows['camid'] = numbers, features.pids, features.camids
        rows['text'] = self._text_end + np.cumsum([len(line) for line in lines], dtype=np.int64)
        for name in (BEGIN, END):
            rows[name] = [np.nan if v is None else v for v in columns.get(name, [np.nan])]
        for name in self._keyed:
            rows[key_name(name)] = [key_of(value) for value in columns[name]]
        return rows, np.frombuffer(b''.join(lines), np.uint8)

    def build(self, tell: Tell | None = None) -> None:
        """Make the index for what was added; called again, it goes on where it was.

        Args:
            tell: Is told how far it is.

        Raises:
            ConfigError: FAISS is missing.
        """
        if self._slots > SMALL:
            self._index.build(self._vectors, self._slots, tell)

    # Reading -----------------------------------------------------------------------------------

    @property
    def columns(self) -> list[str]:
        """Names of what else is known of the images."""
        return list(self._columns or ())

    def take(self, numbers: Sequence[int]) -> tuple[ReIDFeatures, dict[str, list[Any]]]:
        """Some images, as :meth:`Gallery.take`; features as they are kept, in float16."""
        slots = self._slot_of[self._there(numbers, once=False)]
        rows = self._rows.take(slots)
        known = [self._line(slot, end) for slot, end in zip(slots, rows['text'], strict=True)]
        features = ReIDFeatures(
            self._vectors.take(slots),
            rows['pid'],
            rows['camid'],
            [path for path, _ in known],
            self.model,
            'the gallery',
            self.preparation,
        )
        return features, {name: [columns[name] for _, columns in known] for name in self.columns}

    def _line(self, slot: int, end: int) -> tuple[str, dict[str, Any]]:
        start = int(self._rows.read(slot - 1, slot)['text'][0]) if slot else 0
        path, columns = json.loads(self._text.read(start, int(end)).tobytes())
        return path, columns

    def find(self, where: Where | None = None) -> np.ndarray:
        """Numbers of the images that are chosen, ascending; of all by default."""
        return np.sort(self._field('number')[self._allowed(where)])

    def _allowed(self, where: Where | None) -> np.ndarray:
        if where is None:
            return self._alive
        where.check_columns(self.columns)
        kept, slots, chosen = self._last_choice
        if (kept, slots) != (where, self._slots):
            chosen = where.mask(
                self._field('camid'),
                self._field,
                lambda name, values: np.isin(self._field(key_name(name)), [*map(key_of, values)]),
            )
            self._last_choice = where, self._slots, chosen
        return self._alive & chosen

    def _there(self, numbers: Sequence[int], once: bool = True) -> np.ndarray:
        return check_numbers(numbers, self._has, once)

    def _has(self, numbers: np.ndarray) -> np.ndarray:
        there = numbers < self.count
        there[there] = self._slot_of[numbers[there]] >= 0
        return there

    # Searching ---------------------------------------------------------------------------------

    def search(
        self,
        features: ReIDFeatures,
        top: int = 10,
        *,
        other_cameras: bool = False,
        where: Where | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest images of the gallery, as :meth:`Gallery.search`.

        Raises:
            ConfigError: ``top`` below 1, or FAISS is missing, which a built index needs.
            DataError: As of :meth:`Gallery.search`.
        """
        check_search(top, len(self))
        check_features(features, self.width, self.model, self.preparation)
        if other_cameras:
            check_cameras(features.camids, self._field('camid')[self._alive])
        ready = FeatureSpace(features.features, self.distance).features.numpy()
        mask = self._masks(features, other_cameras, self._allowed(where))
        found = self._unindexed(ready, top, mask)
        numbers = np.full((len(features), top), -1)
        distances = np.full((len(features), top), np.inf, np.float32)
        for query, vector in enumerate(ready):
            slots, values = self._indexed(vector, top, mask(query, slice(0, self._index.coded)))
            slots, values = joined(found[query], (slots, values))
            images = self._field('number')[slots]
            order = np.lexsort((images, values))[:top]
            numbers[query, : len(order)] = images[order]
            distances[query, : len(order)] = values[order]
        return numbers, distances

    def _masks(
        self, features: ReIDFeatures, other_cameras: bool, allowed: np.ndarray
    ) -> Callable[[int, slice], np.ndarray]:
        """A function: which of a part of the slots a query may find, (n,) bool."""
        if not other_cameras:
            return lambda query, part: allowed[part]
        pids, camids = self._field('pid'), self._field('camid')

        def mask(query: int, part: slice) -> np.ndarray:
            person, camera = features.pids[query], features.camids[query]
            own = (camids[part] == camera) & ((pids[part] == person) | (person < 0))
            return allowed[part] & ~own

        return mask

    def _indexed(self, query: np.ndarray, top: int, allowed: np.ndarray) -> Found:
        """Slots that have codes, the ``top`` nearest among them, and their distances."""
        left = np.count_nonzero(allowed)
        if left <= FEW:
            slots = np.flatnonzero(allowed)
        else:
            lists = int(LISTS * (len(allowed) / left) ** 0.5)
            wanted = max(CANDIDATES, 4 * top)
            mask = None if left == len(allowed) else allowed
            slots = self._index.candidates(query, wanted, lists, mask)
        return slots, self._distances(query, self._vectors.take(slots))

    def _unindexed(
        self, queries: np.ndarray, top: int, mask: Callable[[int, slice], np.ndarray]
    ) -> list[Found]:
        """For each query of slots without codes the ``top`` nearest and those as near."""
        nothing = np.empty(0, np.int64), np.empty(0, np.float32)
        found = [nothing] * len(queries)
        asked = FeatureSpace(queries, self.distance, ready=True)
        for first, stored in self._vectors.blocks(self._index.coded, self._slots):
            block = stored.astype(np.float32)
            space = FeatureSpace(block, self.distance, ready=True)
            for start, rows in asked.blocks(space):
                for query, row in enumerate(rows.numpy(), start):
                    allowed = np.flatnonzero(mask(query, slice(first, first + len(block))))
                    row = row[allowed]
                    slack = ROUNDING * float(space.offsets.max() + abs(asked.offsets).max())
                    near = allowed[row <= last_of(row, top) + slack]
                    values = self._distances(queries[query], block[near])
                    slots, values = joined(found[query], (first + near, values))
                    kept = values <= last_of(values, top)
                    found[query] = slots[kept], values[kept]
        return found

    def _distances(self, query: np.ndarray, stored: np.ndarray) -> np.ndarray:
        """Of (n, D) vectors, each by itself: equal ones get equal distances."""
        vectors = stored.astype(np.float32)
        if self.distance == 'cosine':
            return 1 - (vectors * query).sum(1)
        return ((vectors - query) ** 2).sum(1)


def read_state(path: Path) -> dict[str, Any]:
    """What the file says that commits the others.

    Raises:
        DataError: There is none, or it is no such file.
    """
    try:
        state = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise DataError(f'gallery {path.parent}: there is no {path.name} in it') from None
    except (OSError, ValueError) as error:
        raise DataError(f'{path} cannot be read: {error}') from error
    if not isinstance(state, dict) or state.get('kind') != FILE_KIND:
        raise DataError(f'{path} was not written by effvit_mm')
    if missing := [name for name in (*HEADER, 'columns', *COUNTS) if name not in state]:
        raise DataError(f'{path} has no {missing[0]!r}')
    return state


def key_name(column: str) -> str:
    """The field of a row with the key of a column's value."""
    return f'key:{column}'


def plain_text(value: Any) -> str:
    """A line of JSON, or :class:`DataError` where a value is not plain."""
    try:
        return json.dumps(value)
    except TypeError as error:
        raise DataError(f'columns: {error}; plain values are needed') from error


def joined(first: Found, second: Found) -> Found:
    """Both, one behind the other."""
    slots, values = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    return slots, values


def last_of(values: np.ndarray, top: int) -> float:
    """The distance up to which there are ``top`` values; infinity where there are fewer."""
    return float(np.partition(values, top - 1)[top - 1]) if top <= len(values) else np.inf
