"""Candidates for the nearest of millions of vectors: inverted lists of short codes, by FAISS.

Vectors are put into lists by the nearest of a few thousand centres (Jégou, Douze and Schmid, 2011),
and kept as the signs of what they differ from it, after a random rotation: RaBitQ, a bit for each
number (Gao and Long, 2024). A query's nearest are looked for in the lists of the centres that are
nearest to it. Codes give candidates only: whoever asks compares these exactly.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..utils.files import write_text, written_atomically
from .flat_files import FlatFile
from .vector_index import import_faiss, use_threads

TRAINED, CODES, STATE = 'trained.faiss', 'codes.u8', 'index.json'
SAMPLE = 64  # vectors a list from which the centres are learnt
ROUNDS = 8  # of k-means
GROWN = 8  # centres are learnt anew once there are so many times the vectors
ROWS_AT_ONCE = 65536

Tell = Callable[[str], None]


def lists_for(count: int) -> int:
    """How many lists so many vectors get: a power of 2 of at most the root."""
    return 2 ** int(np.log2(max(count, 1)) / 2)


class LargeIndex:
    """Codes of the first vectors of a file, in a folder.

    Args:
        folder: Where its files are.
        width: Of the vectors.

    Attributes:
        coded: How many vectors have codes.

    Raises:
        DataError: A file of it is broken.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = Path(folder), width
        self.coded, self.learnt_of, self._index = 0, 0, None
        self._in_memory = 0
        path = self.folder / STATE
        if path.is_file():
            try:
                state = json.loads(path.read_text(encoding='utf-8'))
                self.coded, self.learnt_of = int(state['coded']), int(state['learnt_of'])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f'{path} cannot be read: {error}') from error

    def build(self, vectors: FlatFile, count: int, tell: Tell | None = None) -> None:
        """Give codes to the vectors that have none; what is done is kept if it is interrupted.

        Args:
            vectors: (count, D) float16 or float32.
            count: How many there are.
            tell: Is told how far it is.
        """
        use_threads()
        if count >= GROWN * self.learnt_of:
            self._learn(vectors, count, tell)
        index, codes = self._trained(), self._codes()
        while self.coded < count:
            block = vectors.read(self.coded, min(self.coded + ROWS_AT_ONCE, count))
            codes.append(index.sa_encode(block.astype(np.float32)), self.coded)
            self._write(self.coded + len(block), self.learnt_of)
            if tell is not None:
                tell(f'{self.coded:,} of {count:,} vectors have codes')

    def _learn(self, vectors: FlatFile, count: int, tell: Tell | None) -> None:
        """Centres and codes from a sample; all vectors are without codes then."""
        faiss = import_faiss()
        lists = lists_for(count)
        if tell is not None:
            tell(f'learning the centres of {lists:,} lists')
        chosen = np.random.default_rng(0).choice(count, min(count, SAMPLE * lists), replace=False)
        sample = vectors.take(np.sort(chosen)).astype(np.float32)
        index = make_index(self.width, lists)
        faiss.extract_index_ivf(index).cp.niter = ROUNDS
        index.train(sample)
        self._write(0, 0)
        with written_atomically(self.folder / TRAINED) as temporary:
            faiss.write_index(index, str(temporary))
        self._index, self._in_memory = index, 0
        self._write(0, count)

    def candidates(
        self, query: np.ndarray, count: int, lists: int, allowed: np.ndarray | None
    ) -> np.ndarray:
        """Vectors that may be the nearest of one: numbers, in no order.

        Args:
            query: (D,) float32.
            count: How many are wanted.
            lists: How many lists are looked through.
            allowed: (coded,) bool, which may be found; None: all.
        """
        faiss = import_faiss()
        index = self._loaded()
        chosen = None
        if allowed is not None:
            bits = np.packbits(allowed, bitorder='little')
            chosen = faiss.IDSelectorBitmap(bits)
        inner = faiss.SearchParametersIVF(nprobe=min(lists, self.lists), sel=chosen)
        how = faiss.SearchParametersPreTransform(index_params=inner)
        numbers = index.search(query[None], min(count, self.coded), params=how)[1][0]
        return numbers[numbers >= 0]

    @property
    def lists(self) -> int:
        """How many there are."""
        return self._lists().nlist

    def _loaded(self) -> Any:
        """FAISS's index with all codes."""
        index, codes = self._trained(), self._codes()
        codes.check(self.coded)
        use_threads()
        while self._in_memory < self.coded:
            stop = min(self._in_memory + ROWS_AT_ONCE, self.coded)
            numbers = np.arange(self._in_memory, stop)
            self._lists().add_sa_codes(codes.read(self._in_memory, stop), numbers)
            self._in_memory = stop
        return index

    def _trained(self) -> Any:
        if self._index is None:
            faiss = import_faiss()
            path = self.folder / TRAINED
            try:
                self._index = faiss.read_index(str(path))
            except RuntimeError as error:
                reason = ' '.join(str(error).split())[:200]
                raise DataError(f'{path} cannot be read: {reason}') from error
            if self._index.d != self.width:
                raise DataError(f'{path} is of width {self._index.d}, not {self.width}')
        return self._index

    def _lists(self) -> Any:
        """The part of the index behind the rotation."""
        return import_faiss().extract_index_ivf(self._trained())

    def _codes(self) -> FlatFile:
        return FlatFile(self.folder / CODES, np.uint8, self._trained().sa_code_size())

    def _write(self, coded: int, learnt_of: int) -> None:
        text = json.dumps({'coded': coded, 'learnt_of': learnt_of})
        write_text(self.folder / STATE, text)
        self.coded, self.learnt_of = coded, learnt_of


def make_index(width: int, lists: int) -> Any:
    """An index of FAISS that has learnt nothing yet."""
    faiss = import_faiss()
    centres, rotation = faiss.IndexFlatL2(width), faiss.RandomRotationMatrix(width, width)
    rotation.init(1)
    inner = faiss.IndexIVFRaBitQ(centres, width, lists, faiss.METRIC_L2)
    inner.own_fields = True  # FAISS up to 1.12 does not keep the centres by itself
    centres.this.disown()
    return faiss.IndexPreTransform(rotation, inner)
