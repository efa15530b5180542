"""Search for people in a gallery of any size.

An exact index compares a query with every image. The approximate one (HNSW, by FAISS) follows links
between near features: it is slower to fill and takes somewhat more memory, but looks at a few
hundred images for a query and finds most of the nearest: 88 % of the first ten in 50,000 hard
random features of 512. Both grow by as many images at a time as one likes. Equal features are kept
once.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError, UserError
from ..utils.files import written_atomically
from .distances import FeatureSpace, check_distance
from .features import ReIDFeatures
from .gallery_checks import (
    check_cameras,
    check_columns,
    check_count,
    check_features,
    check_header,
    check_identity,
    check_numbers,
    check_search,
)
from .vector_index import INDICES, ROWS_AT_ONCE, ApproximateIndex, ExactIndex, read_faiss
from .where import Where

FILE_KIND = 'effvit_mm re-ID gallery'
HEADER = ('width', 'model', 'index', 'distance', 'preparation')


class Gallery:
    """Images of people that can be searched by features; kept in memory, and in one file.

    An image has a number, from 0 in the order of adding, which stays its own: no other gets it
    where it is deleted.

    Args:
        width: Of the features.
        model: Identity of the model that makes them, by ``model_identity``; features of another are
            refused. Empty: not known, any will do.
        index: ``'exact'`` or ``'approximate'``.
        distance: ``'cosine'`` or ``'euclidean'`` (squared).
        preparation: How images were prepared for the model; features of images that were prepared
            in another way are refused. Empty: it is that of the first features that say it.

    Attributes:
        paths: File names by number; empty where an image was deleted.
        pids: (N,) int64, their people; -1 where not known.
        camids: (N,) int64, their cameras; -1 where not known.
        columns: What else is known of them: lists of N plain values by name.
        count: N, how many numbers were given; ``len()`` says how many images are there.

    Raises:
        ConfigError: An argument that cannot be, or FAISS is missing, which ``'approximate'`` needs.
    """

    def __init__(
        self,
        width: int,
        model: str = '',
        *,
        index: str = 'exact',
        distance: str = 'cosine',
        preparation: str = '',
    ) -> None:
        check_distance(distance)
        if index not in INDICES:
            raise ConfigError(f'index={index!r}: choose from {", ".join(INDICES)}')
        if width < 1:
            raise ConfigError(f'width={width}: must be 1 or more')
        self.width, self.model, self.index, self.distance = width, model, index, distance
        self.preparation = preparation
        self.paths: list[str] = []
        self.columns: dict[str, list[Any]] = {}
        self._labels: list[np.ndarray] = []  # (2, n): people and cameras
        self._vectors = INDICES[index](width, distance)
        self._rows = np.empty(0, np.int64)  # (N,): the vector of each image, -1: deleted
        self._grouped: tuple[np.ndarray, ...] | None = None
        self._known: dict[bytes, int] | None = None  # vectors by their digests, once it grows

    def __len__(self) -> int:
        return int((self._rows >= 0).sum())

    @property
    def count(self) -> int:
        return len(self.paths)

    @property
    def pids(self) -> np.ndarray:
        return self._joined_labels()[0]

    @property
    def camids(self) -> np.ndarray:
        return self._joined_labels()[1]

    def add(
        self, features: ReIDFeatures, columns: Mapping[str, Sequence[Any]] | None = None
    ) -> np.ndarray:
        """Add images at the end; nothing is added where one of them cannot be.

        Args:
            features: Of the images.
            columns: What else is known of each, as plain values: the same names each time.

        Returns:
            (n,) int64, their numbers.

        Raises:
            DataError: Another model or width, a feature that is not a finite number, or columns of
                other names or lengths.
        """
        columns = self._checked(features, columns)
        first = self.count
        self._rows = np.concatenate([self._rows, self._vectors_of(features)])
        self.paths += list(features.paths) or [''] * len(features)
        for name, values in columns.items():
            self.columns.setdefault(name, []).extend(values)
        self._labels.append(np.stack([features.pids, features.camids]))
        return np.arange(first, self.count)

    def update(
        self,
        numbers: Sequence[int],
        features: ReIDFeatures,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Put other images in the place of some: features, names, labels and columns.

        Args:
            numbers: (n,) of the images, each once.
            features, columns: As of :meth:`add`.

        Raises:
            DataError: As of :meth:`add`; there is no such image. Nothing is changed then.
        """
        numbers = self._there(numbers)
        columns = self._checked(features, columns)
        check_count(numbers, features)
        self._rows[numbers] = self._vectors_of(features)
        paths = list(features.paths) or [''] * len(features)
        self._put(numbers, paths, columns, (features.pids, features.camids))

    def delete(self, numbers: Sequence[int]) -> None:
        """Take images out; from files they are gone when the gallery is saved.

        Raises:
            DataError: There is no such image. Nothing is deleted then.
        """
        numbers = self._there(numbers)
        self._rows[numbers], self._grouped = -1, None
        columns = {name: [None] * len(numbers) for name in self.columns}
        self._put(numbers, [''] * len(numbers), columns, (-1, -1))

    def _put(self, numbers: np.ndarray, paths: list, columns: Mapping, labels: tuple) -> None:
        self._joined_labels()[:, numbers] = np.stack(
            [np.broadcast_to(values, len(numbers)) for values in labels]
        )
        lists = [(self.paths, paths), *((self.columns[name], columns[name]) for name in columns)]
        for there, values in lists:
            for number, value in zip(numbers, values, strict=True):
                there[number] = value

    def take(self, numbers: Sequence[int]) -> tuple[ReIDFeatures, dict[str, list[Any]]]:
        """Some images: features (of length 1 where the distance is cosine), and their columns.

        Raises:
            DataError: There is no such image.
        """
        numbers = self._there(numbers, once=False)
        features = ReIDFeatures(
            self._vectors.take(self._rows[numbers]),
            self.pids[numbers],
            self.camids[numbers],
            [self.paths[n] for n in numbers],
            self.model,
            'the gallery',
            self.preparation,
        )
        return features, {name: [c[n] for n in numbers] for name, c in self.columns.items()}

    def find(self, where: Where | None = None) -> np.ndarray:
        """Numbers of the images that are chosen, ascending; of all by default."""
        there = self._rows >= 0
        return np.flatnonzero(there if where is None else there & self._chosen(where))

    def _chosen(self, where: Where) -> np.ndarray:
        where.check_columns(self.columns)
        return where.mask(
            self.camids,
            lambda name: np.array([np.nan if v is None else v for v in self.columns[name]], float),
            lambda name, values: np.array([v in values for v in self.columns[name]], bool),
        )

    def _there(self, numbers: Sequence[int], once: bool = True) -> np.ndarray:
        return check_numbers(numbers, self._has, once)

    def _has(self, numbers: np.ndarray) -> np.ndarray:
        there = numbers < self.count
        there[there] = self._rows[numbers[there]] >= 0
        return there

    def _checked(
        self, features: ReIDFeatures, columns: Mapping[str, Sequence[Any]] | None
    ) -> dict[str, list[Any]]:
        self._check(features)
        return check_columns(columns, len(features), self.columns if self.count else None)

    def _vectors_of(self, features: ReIDFeatures) -> np.ndarray:
        """Vectors of features, new ones added; they are of the gallery from now on."""
        self.preparation = self.preparation or features.preparation
        self._grouped = None
        parts = range(0, len(features), ROWS_AT_ONCE)
        rows = [self._add_vectors(features.features[p : p + ROWS_AT_ONCE]) for p in parts]
        return np.concatenate([np.empty(0, np.int64), *rows])

    def _add_vectors(self, features: np.ndarray) -> np.ndarray:
        """The numbers of their vectors; those that are not there yet are added."""
        if self._known is None:
            stored = (vector for block in self._vectors.blocks() for vector in block)
            self._known = {_digest(vector): number for number, vector in enumerate(stored)}
        ready = FeatureSpace(features, self.distance).features.numpy() + 0.0  # no -0.0
        new, rows = [], []
        for place, vector in enumerate(ready):
            digest = _digest(vector)
            if digest not in self._known:
                self._known[digest] = len(self._vectors) + len(new)
                new.append(place)
            rows.append(self._known[digest])
        self._vectors.add(ready[new])
        return np.array(rows, np.int64)

    def search(
        self,
        features: ReIDFeatures,
        top: int = 10,
        *,
        other_cameras: bool = False,
        among: np.ndarray | None = None,
        where: Where | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest images of the gallery; of two as near the first in the gallery comes first.

        Args:
            features: Of the queries.
            top: How many images are wanted.
            other_cameras: Leave out what the evaluation leaves out: images of the query's person by
                the query's camera. Of a query whose person is not known: all by its camera.
            among: (N,) bool, which images may be found; all by default.
            where: Which images may be found, by camera, time and columns.

        Returns:
            (Q, top) int64 numbers of images, nearest first, and (Q, top) float32 distances; -1 and
            infinity where there are fewer.

        Raises:
            ConfigError: ``top`` below 1.
            DataError: The gallery is empty; queries of another model, width or preparation, or with
                a feature that is not a finite number; cameras are needed, but not known.
        """
        check_search(top, len(self))
        self._check(features)
        hidden = self._own_cameras(features) if other_cameras else None
        if where is not None:
            among = self._chosen(where) & (True if among is None else np.asarray(among, bool))
        if among is not None:
            hidden = self._all_but(among, hidden or [np.empty(0, np.int64)] * len(features))
        ready = FeatureSpace(features.features, self.distance).features.numpy()
        indices = np.full((len(features), top), -1)
        distances = np.full((len(features), top), np.inf, np.float32)
        for query, (images, values) in enumerate(self._nearest(ready, top, hidden)):
            order = np.lexsort((images, values))[:top]
            indices[query, : len(order)] = images[order]
            distances[query, : len(order)] = values[order]
        return indices, distances

    def _nearest(
        self, queries: np.ndarray, top: int, hidden: list[np.ndarray] | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images and distances, in no order: the ``top`` nearest of each query are among them."""
        images, first, counts = self._groups()
        gone = None
        if hidden is None and not counts.all():
            hidden = [np.empty(0, np.int64)] * len(queries)
        if hidden is not None:  # vectors of which no image is left
            rows = (self._rows[h] for h in hidden)
            left = (counts - np.bincount(r[r >= 0], minlength=len(counts)) for r in rows)
            gone = [np.flatnonzero(number == 0) for number in left]
        for query, (vectors, values) in enumerate(self._vectors.nearest(queries, top, gone)):
            sizes = counts[vectors]
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            found = images[np.repeat(first[vectors], sizes) + within]
            values = np.repeat(values, sizes)
            if hidden is not None:
                seen = ~np.isin(found, hidden[query])
                found, values = found[seen], values[seen]
            yield found, values

    def _groups(self) -> tuple[np.ndarray, ...]:
        """All images, those of a vector together; for each vector where they begin, how many."""
        if self._grouped is None:
            there = np.flatnonzero(self._rows >= 0)
            counts = np.bincount(self._rows[there], minlength=len(self._vectors))
            images = there[np.argsort(self._rows[there], kind='stable')]
            self._grouped = images, np.cumsum(counts) - counts, counts
        return self._grouped

    def _own_cameras(self, features: ReIDFeatures) -> list[np.ndarray]:
        """Images of each query's person, where that is known, by its own camera."""
        check_cameras(features.camids, self.camids[self._rows >= 0])
        return [
            np.flatnonzero((self.camids == camera) & ((self.pids == person) | (person < 0)))
            for person, camera in zip(features.pids, features.camids, strict=True)
        ]

    def _all_but(self, among: np.ndarray, hidden: list[np.ndarray]) -> list[np.ndarray]:
        """Images that are hidden, or not among those that may be found."""
        among = np.asarray(among, bool)
        if among.shape != (self.count,):
            raise DataError(f'among has shape {among.shape} for {self.count} images of the gallery')
        others = np.flatnonzero(~among)
        return [np.union1d(own, others) for own in hidden]

    def label(self, pids: np.ndarray, camids: np.ndarray) -> None:
        """Say who the images show and which cameras took them: (N,) each."""
        labels = np.stack([pids, camids]).astype(np.int64)
        if labels.shape != (2, self.count):
            raise DataError(f'{labels.shape[1]} labels for {self.count} images of the gallery')
        self._labels = [labels]

    def save(self, path: str | Path) -> None:
        """Write one file with features, names, labels and the model's identity, atomically.

        Raises:
            UserError: The file cannot be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._forget_unused()
        header = {
            'kind': FILE_KIND,
            'count': self.count,
            **{name: getattr(self, name) for name in HEADER},
        }
        with written_atomically(path) as temporary, zipfile.ZipFile(temporary, 'w') as archive:
            # ZipInfo has no clock: the same gallery is the same file.
            for part, plain in (
                ('header.json', header),
                ('paths.json', self.paths),
                ('columns.json', self.columns),
            ):
                archive.writestr(zipfile.ZipInfo(part), json.dumps(plain))
            for name, values in (('labels.npy', self._joined_labels()), ('rows.npy', self._rows)):
                with archive.open(zipfile.ZipInfo(name), 'w', force_zip64=True) as file:
                    np.save(file, values)
            with archive.open(zipfile.ZipInfo(self._vectors.PART), 'w', force_zip64=True) as file:
                self._vectors.write(file)

    def _forget_unused(self) -> None:
        """Leave out vectors of which no image is left: an approximate index is filled anew."""
        used = self._groups()[2] > 0
        if used.all():
            return
        vectors, start = INDICES[self.index](self.width, self.distance), 0
        for block in self._vectors.blocks():
            vectors.add(block[used[start : start + len(block)]])
            start += len(block)
        there = self._rows >= 0
        self._rows[there] = (np.cumsum(used) - 1)[self._rows[there]]
        self._vectors, self._grouped, self._known = vectors, None, None

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
        if not path.is_file():
            raise DataError(f'gallery {path}: no such file')
        try:
            with zipfile.ZipFile(path) as archive:
                header = _read_header(archive, path)
                check_identity(path, (header['width'], header['model']), width, model)
                if broken := archive.testzip():  # before FAISS takes its sizes from it
                    raise DataError(f'gallery {path} is damaged: {broken} has a wrong checksum')
                return cls._from_archive(archive, header, path)
        except UserError:
            raise
        except Exception as error:  # of a broken file zipfile, NumPy and FAISS raise anything
            reason = ' '.join(str(error).split())[:200]
            raise DataError(f'gallery {path} cannot be read (cut short?): {reason}') from error

    @classmethod
    def _from_archive(
        cls, archive: zipfile.ZipFile, header: Mapping[str, Any], path: Path
    ) -> Gallery:
        known = check_header({name: header[name] for name in HEADER[:-1]})
        gallery = cls(**known, preparation=header.get('preparation', ''))
        gallery.paths = json.loads(archive.read('paths.json'))
        if 'columns.json' in archive.namelist():  # galleries of earlier versions have none
            gallery.columns = json.loads(archive.read('columns.json'))
        with archive.open('labels.npy') as file:
            gallery._labels = [np.load(file, allow_pickle=False)]
        gallery._read_vectors(archive)
        gallery._check_kinds()
        counts = {
            'images': len(gallery._rows),
            'names': len(gallery.paths),
            'labels': gallery._joined_labels().shape[1],
            **{f'values of {name}': len(values) for name, values in gallery.columns.items()},
        }
        if set(counts.values()) != {header['count']} or not gallery._has_vectors():
            parts = ', '.join(f'{number} {name}' for name, number in counts.items())
            raise DataError(
                f'gallery {path}: its parts do not belong together: {parts}, '
                f'{len(gallery._vectors)} vectors'
            )
        return gallery

    def _read_vectors(self, archive: zipfile.ZipFile) -> None:
        """The vectors, and which image has which: before equal ones were kept once, its own."""
        old = 'rows.npy' not in archive.namelist()
        with archive.open(ApproximateIndex.PART if old else self._vectors.PART) as file:
            if old and isinstance(self._vectors, ExactIndex):
                stored = read_faiss(file)
                self._vectors.add(stored.reconstruct_n(0, stored.ntotal))
            else:
                self._vectors.read(file)
        if old:
            self._rows = np.arange(len(self._vectors))
            return
        with archive.open('rows.npy') as file:
            self._rows = np.load(file, allow_pickle=False)

    def _check_kinds(self) -> None:
        """ValueError for parts of a file that are of other kinds than they were written."""
        if not isinstance(self.paths, list) or not all(isinstance(p, str) for p in self.paths):
            raise ValueError('paths.json is no list of names')
        lists = isinstance(self.columns, dict) and all(
            isinstance(values, list) for values in self.columns.values()
        )
        if not lists:
            raise ValueError('columns.json has no lists by name')
        for name, array, wanted in (('labels', self._labels[0], 2), ('rows', self._rows, 1)):
            if array.ndim != wanted or array.dtype.kind not in 'iu':
                raise ValueError(f'{name}.npy has {array.dtype} of shape {array.shape}')

    def _has_vectors(self) -> bool:
        """Whether there is a vector for each image, and an image for each vector."""
        rows = np.unique(self._rows)
        return np.array_equal(rows[rows != -1], np.arange(len(self._vectors)))

    def _joined_labels(self) -> np.ndarray:
        if len(self._labels) != 1:
            self._labels = [np.concatenate([np.empty((2, 0), np.int64), *self._labels], axis=1)]
        return self._labels[0]

    def _check(self, features: ReIDFeatures) -> None:
        check_features(features, self.width, self.model, self.preparation)


def _digest(vector: np.ndarray) -> bytes:
    return hashlib.blake2b(vector.tobytes(), digest_size=16).digest()


def _read_header(archive: zipfile.ZipFile, path: Path) -> Mapping[str, Any]:
    names = archive.namelist()
    header = json.loads(archive.read('header.json')) if 'header.json' in names else None
    if not isinstance(header, Mapping) or header.get('kind') != FILE_KIND:
        raise DataError(f'gallery {path} was not written by effvit_mm (it has {names[:4]})')
    return header
