"""The nearest of many vectors: all compared, or by following FAISS's links between near ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import IO, Any, Protocol

import numpy as np
import torch

from ..errors import ConfigError
from .distances import FeatureSpace

LINKS = 32  # of a vector in the approximate index
EFFORT_FILLING = 80  # candidates looked at for a new vector's links
EFFORT_SEARCHING = 128  # candidates of a search, at least twice what is asked for
# Of N vectors s N may be found: to follow links costs about 4,000 / s comparisons, for candidates
# that may not be found are among them, and to compare all that may be costs s N.
COMPARISONS = 4000
ROWS_AT_ONCE = 65536
IO_BYTES = 2**20

Found = tuple[np.ndarray, np.ndarray]  # numbers of vectors, in no order, and their distances


class VectorIndex(Protocol):
    """Distinct vectors, numbered as they were added, that can be searched.

    Vectors are ready for their distance: features of a :class:`FeatureSpace`.

    Attributes:
        PART: Name of the file of a gallery that has the vectors.
    """

    PART: str

    def __len__(self) -> int: ...

    def add(self, vectors: np.ndarray) -> None:
        """More vectors, (N, D) float32."""

    def blocks(self) -> Iterator[np.ndarray]:
        """All vectors in order, (n, D) at a time."""

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Some vectors, (n, D), for n numbers."""

    def nearest(
        self, queries: np.ndarray, count: int, left_out: Sequence[np.ndarray] | None
    ) -> Iterator[Found]:
        """For each query the nearest vectors: ``count`` of them where there are so many.

        Args:
            queries: (Q, D) float32.
            count: How many are wanted.
            left_out: For each query the numbers of vectors that are not to be found.
        """

    def write(self, file: IO[bytes]) -> None:
        """What :meth:`read` takes."""

    def read(self, file: IO[bytes]) -> None:
        """The vectors of a file; ValueError where they are of another kind."""


class ExactIndex:
    """Compares a query with every vector; of those as far as the last one all are given."""

    PART = 'vectors.npy'

    def __init__(self, width: int, distance: str) -> None:
        self.width, self.distance = width, distance
        self._parts: list[np.ndarray] = [np.empty((0, width), np.float32)]
        self._space: FeatureSpace | None = None

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def add(self, vectors: np.ndarray) -> None:
        self._parts.append(vectors)
        self._space = None

    def blocks(self) -> Iterator[np.ndarray]:
        yield from self._parts

    def take(self, numbers: np.ndarray) -> np.ndarray:
        return self._joined().features.numpy()[numbers]

    def nearest(
        self, queries: np.ndarray, count: int, left_out: Sequence[np.ndarray] | None
    ) -> Iterator[Found]:
        asked = FeatureSpace(queries, self.distance, ready=True)
        for start, block in asked.blocks(self._joined()):
            for query, row in enumerate(block, start):
                if left_out is not None:
                    row[left_out[query]] = torch.inf
                last = row.topk(min(count, len(row)), largest=False, sorted=False).values.max()
                numbers = torch.nonzero((row <= last) & (row < torch.inf)).flatten()
                yield numbers.numpy(), row[numbers].numpy()

    def _joined(self) -> FeatureSpace:
        if self._space is None:
            self._space = FeatureSpace(self._in_one(), self.distance, ready=True)
        return self._space

    def _in_one(self) -> np.ndarray:
        """All vectors in one array; what was copied is let go at once: never twice in memory."""
        if len(self._parts) > 1:
            joined, end = np.empty((len(self), self.width), np.float32), 0
            for place, part in enumerate(self._parts):
                start, end = end, end + len(part)
                joined[start:end] = part
                self._parts[place] = joined[start:end]
            self._parts = [joined]
        return self._parts[0]

    def write(self, file: IO[bytes]) -> None:
        np.save(file, self._in_one())

    def read(self, file: IO[bytes]) -> None:
        vectors = np.load(file, allow_pickle=False)
        if vectors.ndim != 2 or vectors.shape[1] != self.width or vectors.dtype != np.float32:
            raise ValueError(f'vectors of {vectors.dtype} {vectors.shape}, not (N, {self.width})')
        self._parts, self._space = [vectors], None


class ApproximateIndex:
    """HNSW (Malkov and Yashunin, 2018), by FAISS: follows links between near vectors.

    Equal vectors must not be added: one that stands a thousand times has links to itself alone, and
    hides what lies behind it from other queries.
    """

    PART = 'index.faiss'

    def __init__(self, width: int, distance: str) -> None:
        faiss = import_faiss()
        self.distance = distance
        metric = faiss.METRIC_INNER_PRODUCT if distance == 'cosine' else faiss.METRIC_L2
        self._faiss = faiss.IndexHNSWFlat(width, LINKS, metric)
        self._faiss.hnsw.efConstruction = EFFORT_FILLING

    def __len__(self) -> int:
        return self._faiss.ntotal

    def add(self, vectors: np.ndarray) -> None:
        use_threads()
        self._faiss.add(vectors)

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), ROWS_AT_ONCE):
            yield self._faiss.reconstruct_n(start, min(ROWS_AT_ONCE, len(self) - start))

    def take(self, numbers: np.ndarray) -> np.ndarray:
        return self._faiss.reconstruct_batch(numbers)

    def nearest(
        self, queries: np.ndarray, count: int, left_out: Sequence[np.ndarray] | None
    ) -> Iterator[Found]:
        use_threads()
        count = min(count, len(self))
        if left_out is None:
            for start in range(0, len(queries), ROWS_AT_ONCE):
                yield from self._follow(queries[start : start + ROWS_AT_ONCE], count)
            return
        for query, numbers in zip(queries, left_out, strict=True):
            kept = np.ones(len(self), bool)
            kept[numbers] = False
            few = np.count_nonzero(kept) ** 2 <= COMPARISONS * len(self)
            yield from (self._compare if few else self._follow)(query[None], count, kept)

    def _follow(
        self, queries: np.ndarray, count: int, kept: np.ndarray | None = None
    ) -> Iterator[Found]:
        """By the links between near vectors; the fewer may be found, the more are looked at."""
        faiss = import_faiss()
        how = faiss.SearchParametersHNSW()
        effort, bits = max(EFFORT_SEARCHING, 2 * count), None
        if kept is not None and not kept.all():
            effort = math.ceil(effort / kept.mean())
            bits = faiss.IDSelectorBitmap(np.packbits(kept, bitorder='little'))
        how.efSearch, how.sel = effort, bits
        yield from self._found(self._faiss, queries, count, how)

    def _compare(self, queries: np.ndarray, count: int, kept: np.ndarray) -> Iterator[Found]:
        """With each vector that may be found."""
        faiss = import_faiss()
        numbers = np.flatnonzero(kept)
        chosen = faiss.IDSelectorArray(numbers)
        how = faiss.SearchParameters(sel=chosen)
        yield from self._found(self._faiss.storage, queries, min(count, len(numbers)), how)

    def _found(self, index: Any, queries: np.ndarray, count: int, how: Any) -> Iterator[Found]:
        if not count:  # FAISS takes 1 or more
            yield from ((np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries)
            return
        values, numbers = index.search(queries, count, params=how)
        values = 1 - values if self.distance == 'cosine' else values
        for row, found in zip(values, numbers, strict=True):
            yield found[found >= 0], row[found >= 0]

    def write(self, file: IO[bytes]) -> None:
        faiss = import_faiss()
        faiss.write_index(self._faiss, faiss.PyCallbackIOWriter(file.write, IO_BYTES))

    def read(self, file: IO[bytes]) -> None:
        stored = read_faiss(file)
        expected, actual = (
            (type(index).__name__, index.d, index.metric_type) for index in (self._faiss, stored)
        )
        if actual != expected:
            raise ValueError(f'an index of type {actual[0]} and width {actual[1]}')
        self._faiss = stored


INDICES: dict[str, Callable[[int, str], VectorIndex]] = {
    'exact': ExactIndex,
    'approximate': ApproximateIndex,
}


def import_faiss() -> ModuleType:
    """FAISS, or :class:`ConfigError` that says how to get it."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ConfigError(
            "approximate search in a gallery needs FAISS: `pip install 'effvit-mm[reid]'` or "
            "`pip install faiss-cpu`; or take index='exact'"
        ) from error
    return faiss


def read_faiss(file: IO[bytes]) -> Any:
    """An index of FAISS out of a file; RuntimeError where there is none."""
    faiss = import_faiss()
    return faiss.read_index(faiss.PyCallbackIOReader(file.read, IO_BYTES))


def use_threads() -> None:
    """Let FAISS take as many threads as PyTorch."""
    import_faiss().omp_set_num_threads(torch.get_num_threads())
