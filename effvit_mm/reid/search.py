"""Search for people in a gallery of any size, by FAISS.

An exact index compares a query with every image. The approximate one (HNSW: Malkov and Yashunin,
2018) follows links between near features: it is slower to fill and takes somewhat more memory, but
looks at a few hundred images for a query and finds most of the nearest: 88 % of the first ten in
50,000 hard random features of 512. Both grow by as many images at a time as one likes.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
import torch

from ..errors import ConfigError, DataError
from ..utils.files import written_atomically
from .distances import FeatureSpace, check_distance
from .features import ReIDFeatures

INDICES = ('exact', 'approximate')
FILE_KIND = 'effvit_mm re-ID gallery'
ROWS_AT_ONCE = 65536
LINKS = 32  # of a feature in the approximate index
EFFORT_FILLING = 80  # candidates looked at for a new feature's links
EFFORT_SEARCHING = 128  # candidates of a search, at least twice what is asked for
IO_BYTES = 2**20


class Gallery:
    """Images of people that can be searched by features.

    Args:
        width: Of the features.
        model: Identity of the model that makes them, by ``model_identity``; features of another are
            refused. Empty: not known, any will do.
        index: ``'exact'`` or ``'approximate'``.
        distance: ``'cosine'`` or ``'euclidean'`` (squared).

    Attributes:
        paths: File names of the images, in the order in which they were added.
        pids: (N,) int64, their people; -1 where not known.
        camids: (N,) int64, their cameras.

    Raises:
        ConfigError: An argument that cannot be, or FAISS is missing.
    """

    def __init__(
        self, width: int, model: str = '', *, index: str = 'exact', distance: str = 'cosine'
    ) -> None:
        check_distance(distance)
        if index not in INDICES:
            raise ConfigError(f'index={index!r}: choose from {", ".join(INDICES)}')
        if width < 1:
            raise ConfigError(f'width={width}: must be 1 or more')
        self.width, self.model, self.index, self.distance = width, model, index, distance
        self.paths: list[str] = []
        self._labels: list[np.ndarray] = []  # (2, n): people and cameras
        self._faiss = self._make_index()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def pids(self) -> np.ndarray:
        return self._joined_labels()[0]

    @property
    def camids(self) -> np.ndarray:
        return self._joined_labels()[1]

    def add(self, features: ReIDFeatures) -> None:
        """Add images at the end; nothing is added where one of them cannot be.

        Raises:
            DataError: Another model or width, or a feature that is not a finite number.
        """
        self._check(features)
        use_threads()
        for start in range(0, len(features), ROWS_AT_ONCE):
            self._faiss.add(self._ready(features.features[start : start + ROWS_AT_ONCE]))
        self.paths += list(features.paths) or [''] * len(features)
        self._labels.append(np.stack([features.pids, features.camids]))

    def search(self, features: ReIDFeatures, top: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The nearest images of the gallery.

        Returns:
            (Q, top) int64 indices into :attr:`paths`, nearest first, and (Q, top) float32
            distances; -1 and infinity where the gallery is shorter.

        Raises:
            ConfigError: ``top`` below 1.
            DataError: The gallery is empty; queries of another model or width, or with a feature
                that is not a finite number.
        """
        if top < 1:
            raise ConfigError(f'top={top}: must be 1 or more')
        if len(self) == 0:
            raise DataError('the gallery is empty: there is nothing to search')
        self._check(features)
        use_threads()
        count = min(top, len(self))
        if self.index == 'approximate':
            self._faiss.hnsw.efSearch = max(EFFORT_SEARCHING, 2 * count)
        indices = np.full((len(features), top), -1)
        distances = np.full((len(features), top), np.inf, np.float32)
        for start in range(0, len(features), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            values, places = self._faiss.search(self._ready(features.features[part]), count)
            values = 1 - values if self.distance == 'cosine' else values
            indices[part, :count] = places
            distances[part, :count] = np.where(places < 0, np.inf, values)
        return indices, distances

    def save(self, path: str | Path) -> None:
        """Write one file with features, names, labels and the model's identity, atomically.

        Raises:
            UserError: The file cannot be written.
        """
        faiss = import_faiss()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {
            'kind': FILE_KIND,
            'count': len(self),
            **{name: getattr(self, name) for name in ('width', 'model', 'index', 'distance')},
        }
        with written_atomically(path) as temporary, zipfile.ZipFile(temporary, 'w') as archive:
            archive.writestr('header.json', json.dumps(header))
            archive.writestr('paths.json', json.dumps(self.paths))
            with archive.open('labels.npy', 'w', force_zip64=True) as file:
                np.save(file, self._joined_labels())
            with archive.open('index.faiss', 'w', force_zip64=True) as file:
                faiss.write_index(self._faiss, faiss.PyCallbackIOWriter(file.write, IO_BYTES))

    @classmethod
    def load(cls, path: str | Path, *, model: str = '', width: int | None = None) -> Gallery:
        """Read a gallery from the file that :meth:`save` wrote.

        Args:
            path: The file.
            model: Refuse a gallery of a model with another identity.
            width: Refuse features of another width.

        Raises:
            ConfigError: FAISS is missing.
            DataError: No such file, not whole, of another kind, of another model or width; the
                message names the file and what it found.
        """
        path = Path(path)
        import_faiss()
        if not path.is_file():
            raise DataError(f'gallery {path}: no such file')
        try:
            with zipfile.ZipFile(path) as archive:
                header = _read_header(archive, path)
                _check_identity(header, path, model, width)
                if broken := archive.testzip():  # before FAISS takes its sizes from it
                    raise DataError(f'gallery {path} is damaged: {broken} has a wrong checksum')
                return cls._from_archive(archive, header, path)
        except DataError:
            raise
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            reason = ' '.join(str(error).split())[:200]
            raise DataError(f'gallery {path} cannot be read (cut short?): {reason}') from error

    @classmethod
    def _from_archive(
        cls, archive: zipfile.ZipFile, header: Mapping[str, Any], path: Path
    ) -> Gallery:
        names = ('width', 'model', 'index', 'distance')
        width, model, index, distance = (header[name] for name in names)
        gallery = cls(width, model, index=index, distance=distance)
        gallery.paths = json.loads(archive.read('paths.json'))
        with archive.open('labels.npy') as file:
            gallery._labels = [np.load(file, allow_pickle=False)]
        with archive.open('index.faiss') as file:
            stored = _read_index(file)
        expected, actual = (
            (type(index).__name__, index.d, index.metric_type) for index in (gallery._faiss, stored)
        )
        counts = stored.ntotal, len(gallery.paths), gallery.pids.size, gallery.camids.size
        if actual != expected or set(counts) != {header['count']}:
            raise DataError(
                f'gallery {path}: its parts do not belong together: {actual[0]} of width '
                f'{actual[1]}, {counts[0]} features, {counts[1]} names, {counts[2]} labels'
            )
        gallery._faiss = stored
        return gallery

    def _make_index(self) -> Any:
        faiss = import_faiss()
        cosine = self.distance == 'cosine'
        metric = faiss.METRIC_INNER_PRODUCT if cosine else faiss.METRIC_L2
        if self.index == 'exact':
            return faiss.IndexFlatIP(self.width) if cosine else faiss.IndexFlatL2(self.width)
        index = faiss.IndexHNSWFlat(self.width, LINKS, metric)
        index.hnsw.efConstruction = EFFORT_FILLING
        return index

    def _ready(self, features: np.ndarray) -> np.ndarray:
        return FeatureSpace(features, self.distance).features.numpy()

    def _joined_labels(self) -> np.ndarray:
        if len(self._labels) != 1:
            self._labels = [np.concatenate([np.empty((2, 0), np.int64), *self._labels], axis=1)]
        return self._labels[0]

    def _check(self, features: ReIDFeatures) -> None:
        own = ReIDFeatures(np.empty((0, self.width)), [], [], (), self.model, 'the gallery')
        own.check_same_space(features)
        features.check_finite()


def import_faiss() -> ModuleType:
    """FAISS, or :class:`ConfigError` that says how to get it."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ConfigError(
            "search in a gallery needs FAISS: `pip install 'effvit-mm[reid]'` or "
            '`pip install faiss-cpu`'
        ) from error
    return faiss


def use_threads() -> None:
    """Let FAISS take as many threads as PyTorch."""
    import_faiss().omp_set_num_threads(torch.get_num_threads())


def _read_index(file: IO[bytes]) -> Any:
    faiss = import_faiss()
    return faiss.read_index(faiss.PyCallbackIOReader(file.read, IO_BYTES))


def _read_header(archive: zipfile.ZipFile, path: Path) -> Mapping[str, Any]:
    names = archive.namelist()
    header = json.loads(archive.read('header.json')) if 'header.json' in names else None
    if not isinstance(header, Mapping) or header.get('kind') != FILE_KIND:
        raise DataError(f'gallery {path} was not written by effvit_mm (it has {names[:4]})')
    return header


def _check_identity(header: Mapping[str, Any], path: Path, model: str, width: int | None) -> None:
    if width is not None and header['width'] != width:
        raise DataError(f'gallery {path} has features of width {header["width"]}, expected {width}')
    if model and header['model'] != model:
        theirs = f'the model {header["model"]}' if header['model'] else 'an unnamed model'
        raise DataError(f'gallery {path} has features of {theirs}, not of {model}')
