"""A gallery in Milvus: in a file by Milvus Lite, or on a server or cluster, by the same client."""

from __future__ import annotations

import logging.config
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from .database_filters import NEVER, both, filter_of, others
from .distances import FeatureSpace, check_distance
from .features import ReIDFeatures
from .gallery_checks import (
    check_cameras,
    check_columns,
    check_count,
    check_features,
    check_identity,
    check_numbers,
    check_search,
)
from .where import BEGIN, END, Where

FILE_KIND = 'effvit_mm re-ID gallery'
COLLECTION = 'effvit_mm_gallery'
INDICES = {
    'exact': ('FLAT', {}),
    'approximate': ('HNSW', {'M': 32, 'efConstruction': 80}),
}
METRICS = {'cosine': 'IP', 'euclidean': 'L2'}  # of features that are ready for their distance
EFFORT = 128  # of an approximate search, at least twice what is asked for
BYTES_AT_ONCE = 8 * 2**20  # of features in a message; gRPC takes 64 MB
MOST = 16_384  # that Milvus gives for a query
MARGIN = 16  # asked for behind the last, to see whether there are more as near
ROUNDING = 1e-5  # of distances, of the features' squared lengths
PATH_BYTES = 4096
WAIT = 10  # seconds for a server
# Milvus Lite's server, in this process, turns away clients that ask every ten seconds whether it is
# there, as pymilvus's does, and gRPC says so on standard error after a minute of rest
# (``findings/milvus_lite_turns_idle_clients_away.sh``).
NEVER_PING = {'grpc.keepalive_time_ms': 2**31 - 1}


class DatabaseGallery:
    """Images of people in a database, as in a :class:`Gallery`; made by ``create`` or ``open``.

    One process at a time adds. An addition that was interrupted may be there in part.

    Attributes:
        place: The file (``*.db``) or address (``http://host:19530``).
        width, model, distance, preparation, index: As of a :class:`Gallery`.
        columns: Names of what else is known of the images.
        count: How many numbers were given.
    """

    def __init__(self, place: str, client: Any, name: str, header: Mapping[str, Any]) -> None:
        self.place, self._client, self._name = place, client, name
        self._header = dict(header)

    # Opening and closing -----------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        place: str | Path,
        width: int,
        model: str = '',
        *,
        index: str = 'exact',
        distance: str = 'cosine',
        preparation: str = '',
        collection: str = COLLECTION,
        token: str = '',
    ) -> DatabaseGallery:
        """An empty one in a database that has none of this name yet.

        Args:
            place: A file ending in ``.db``, or an address.
            width, model, index, distance, preparation: As of a :class:`Gallery`.
            collection: Name of the gallery in the database.
            token: Of the server, where it asks for one (``user:password``).

        Raises:
            ConfigError: An argument that cannot be, pymilvus is missing, there is such a gallery.
            DataError: The database cannot be reached or opened.
        """
        check_distance(distance)
        if index not in INDICES:
            raise ConfigError(f'index={index!r}: a database has {" or ".join(INDICES)}')
        if width < 2:
            raise ConfigError(f'width={width}: a database needs 2 or more')
        place = check_place(place)
        client = connect(place, token)
        header = {
            'kind': FILE_KIND,
            'width': width,
            'model': model,
            'index': index,
            'distance': distance,
            'preparation': preparation,
            'columns': None,
            'count': 0,
        }
        gallery = cls(place, client, collection, header)
        with told(place):
            if client.has_collection(collection):
                raise ConfigError(f'gallery {place}: there is a collection {collection!r} already')
            gallery._make_collections()
            gallery._write_header()
        return gallery

    @classmethod
    def open(
        cls,
        place: str | Path,
        *,
        model: str = '',
        width: int | None = None,
        collection: str = COLLECTION,
        token: str = '',
    ) -> DatabaseGallery:
        """The gallery of a database; arguments are those of ``create`` and of :meth:`Gallery.load`.

        Raises:
            ConfigError: pymilvus is missing.
            DataError: No such file or gallery, the database cannot be reached or opened, or it is
                of another model or width.
        """
        place = check_place(place)
        if is_file(place) and not Path(place).exists():
            raise DataError(f'gallery {place}: no such file')
        client = connect(place, token)
        with told(place):
            if not client.has_collection(collection):
                there = ', '.join(client.list_collections()) or 'none'
                raise DataError(f'gallery {place}: no collection {collection!r}; it has {there}')
            for name in (collection, header_of(collection)):
                client.load_collection(name)
            rows = client.get(header_of(collection), ids=[0], output_fields=['header'])
        header = rows[0]['header'] if rows else {}
        if header.get('kind') != FILE_KIND:
            raise DataError(f'gallery {place}: {collection!r} was not written by effvit_mm')
        check_identity(place, (header['width'], header['model']), width, model)
        return cls(place, client, collection, header)

    @classmethod
    def exists(cls, place: str | Path, collection: str = COLLECTION, token: str = '') -> bool:
        """Whether a database has such a gallery; errors are those of ``open``."""
        place = check_place(place)
        if is_file(place) and not Path(place).exists():
            return False
        client = connect(place, token)
        with told(place):
            return client.has_collection(collection)

    def close(self) -> None:
        """Close the connection, and give the file free for other processes."""
        self._client.close()
        if is_file(self.place):
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(self.place)

    def _make_collections(self) -> None:
        from pymilvus import DataType

        client = self._client
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field('id', DataType.INT64, is_primary=True)
        schema.add_field('feature', DataType.FLOAT_VECTOR, dim=self.width)
        for name in ('pid', 'camid'):
            schema.add_field(name, DataType.INT64)
        for name in (BEGIN, END):
            schema.add_field(f'time_{name}', DataType.DOUBLE)
        schema.add_field('path', DataType.VARCHAR, max_length=PATH_BYTES)
        schema.add_field('known', DataType.JSON)
        kind, settings = INDICES[self.index]
        index = client.prepare_index_params()
        index.add_index(
            'feature', index_type=kind, metric_type=METRICS[self.distance], params=settings
        )
        client.create_collection(
            self._name, schema=schema, index_params=index, consistency_level='Strong'
        )
        # A collection needs a vector; this one has a row.
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field('id', DataType.INT64, is_primary=True)
        schema.add_field('nothing', DataType.FLOAT_VECTOR, dim=2)
        schema.add_field('header', DataType.JSON)
        index = client.prepare_index_params()
        index.add_index('nothing', index_type='FLAT', metric_type='L2')
        client.create_collection(
            header_of(self._name), schema=schema, index_params=index, consistency_level='Strong'
        )

    def _write_header(self, **changed: Any) -> None:
        header = {**self._header, **changed}
        row = {'id': 0, 'nothing': [0.0, 0.0], 'header': header}
        self._client.upsert(header_of(self._name), [row])
        self._header = header

    def __getattr__(self, name: str) -> Any:
        if name in ('width', 'model', 'index', 'distance', 'preparation', 'count'):
            return self._header[name]
        raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')

    @property
    def columns(self) -> list[str]:
        return list(self._header['columns'] or ())

    # Changing ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._number_of('')

    def add(
        self, features: ReIDFeatures, columns: Mapping[str, Sequence[Any]] | None = None
    ) -> np.ndarray:
        """Add images at the end, as :meth:`Gallery.add`; when it returns, the database has them."""
        rows = self._rows_of(features, columns)
        first = self.count
        numbers = np.arange(first, first + len(features))
        with told(self.place):
            # Numbers are taken first: what an interrupted call left keeps them.
            self._write_header(
                count=first + len(features),
                columns=sorted(columns or {}),
                preparation=self.preparation or features.preparation,
            )
            self._send(numbers, rows)
        return numbers

    def update(
        self,
        numbers: Sequence[int],
        features: ReIDFeatures,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Put other images in the place of some, as :meth:`Gallery.update`."""
        numbers = self._there(numbers)
        rows = self._rows_of(features, columns)
        check_count(numbers, features)
        with told(self.place):
            self._send(numbers, rows)

    def delete(self, numbers: Sequence[int]) -> None:
        """Take images out, as :meth:`Gallery.delete`."""
        numbers = self._there(numbers)
        with told(self.place):
            for part in in_parts(numbers.tolist(), MOST):
                self._client.delete(self._name, ids=part)

    def build(self) -> None:
        """Have the database write what it holds in memory, and index it."""
        with told(self.place):
            self._client.flush(self._name)

    def _send(self, numbers: np.ndarray, rows: list[dict[str, Any]]) -> None:
        numbered = [{'id': n, **row} for n, row in zip(numbers.tolist(), rows, strict=True)]
        for part in in_parts(numbered, max(1, BYTES_AT_ONCE // (4 * self.width))):
            self._client.upsert(self._name, part)

    def _rows_of(
        self, features: ReIDFeatures, columns: Mapping[str, Sequence[Any]] | None
    ) -> list[dict[str, Any]]:
        """Rows for the database, without numbers."""
        check_features(features, self.width, self.model, self.preparation)
        columns = check_columns(columns, len(features), self.columns if self.count else None)
        ready = FeatureSpace(features.features, self.distance).features.numpy()
        paths = list(features.paths) or [''] * len(features)
        for path in paths:
            if len(path.encode(errors='surrogateescape')) > PATH_BYTES:
                raise DataError(
                    f'{features.source}: the name {path[:40]}... has more than {PATH_BYTES} bytes'
                )
        rows = []
        for place, (vector, path) in enumerate(zip(ready, paths, strict=True)):
            known = {name: values[place] for name, values in columns.items()}
            times = {name: known.get(name) for name in (BEGIN, END)}
            rows.append(
                {
                    'feature': vector,
                    'pid': int(features.pids[place]),
                    'camid': int(features.camids[place]),
                    **{f'time_{n}': NEVER if t is None else float(t) for n, t in times.items()},
                    'path': path,
                    'known': known,
                }
            )
        return rows

    # Reading -----------------------------------------------------------------------------------

    def take(self, numbers: Sequence[int]) -> tuple[ReIDFeatures, dict[str, list[Any]]]:
        """Some images, as :meth:`Gallery.take`."""
        numbers = self._there(numbers, once=False)
        by_number = {row['id']: row for row in self._get(numbers)}
        rows = [by_number[n] for n in numbers.tolist()]
        features = ReIDFeatures(
            np.array([row['feature'] for row in rows], np.float32).reshape(-1, self.width),
            [row['pid'] for row in rows],
            [row['camid'] for row in rows],
            [row['path'] for row in rows],
            self.model,
            f'gallery {self.place}',
            self.preparation,
        )
        return features, {name: [row['known'][name] for row in rows] for name in self.columns}

    def find(self, where: Where | None = None) -> np.ndarray:
        """Numbers of the images that are chosen, ascending; of all by default."""
        chosen, found = self._filter(where), []
        with told(self.place):
            for start in range(0, self.count, MOST):
                part = both(f'id >= {start} and id < {start + MOST}', chosen)
                rows = self._client.query(self._name, filter=part, output_fields=['id'], limit=MOST)
                found += [row['id'] for row in rows]
        return np.sort(np.array(found, np.int64))

    def _get(self, numbers: np.ndarray, fields: Sequence[str] = ('*',)) -> Iterator[dict]:
        wanted = np.unique(numbers).tolist()
        with told(self.place):
            for part in in_parts(wanted, 2048):
                yield from self._client.get(self._name, ids=part, output_fields=list(fields))

    def _there(self, numbers: Sequence[int], once: bool = True) -> np.ndarray:
        def has(given: np.ndarray) -> np.ndarray:
            return np.isin(given, [row['id'] for row in self._get(given, ['id'])])

        return check_numbers(numbers, has, once)

    def _number_of(self, chosen: str) -> int:
        """How many rows a filter lets through; Milvus Lite reads each of them, but for ``''``."""
        with told(self.place):
            counted = self._client.query(self._name, filter=chosen, output_fields=['count(*)'])
        return int(counted[0]['count(*)'])

    def _filter(self, where: Where | None) -> str:
        """The choice in Milvus's language, nothing for all."""
        if where is None:
            return ''
        where.check_columns(self.columns)
        return filter_of(where)

    # Searching ---------------------------------------------------------------------------------

    def search(
        self,
        features: ReIDFeatures,
        top: int = 10,
        *,
        other_cameras: bool = False,
        where: Where | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest images of the gallery, as :meth:`Gallery.search`."""
        check_search(top, len(self))
        if top > MOST - MARGIN:
            raise ConfigError(f'top={top}: a database gives {MOST - MARGIN} or less')
        check_features(features, self.width, self.model, self.preparation)
        if other_cameras:
            unknown = self._number_of('camid < 0')
            check_cameras(features.camids, np.where(np.arange(len(self)) < unknown, -1, 0))
        ready = FeatureSpace(features.features, self.distance).features.numpy()
        numbers = np.full((len(features), top), -1)
        distances = np.full((len(features), top), np.inf, np.float32)
        for query, vector in enumerate(ready):
            chosen = self._filter(where)
            if other_cameras:
                chosen = both(others(features.pids[query], features.camids[query]), chosen)
            images, values = self._nearest(vector, top, chosen)
            order = np.lexsort((images, values))[:top]
            numbers[query, : len(order)] = images[order]
            distances[query, : len(order)] = values[order]
        return numbers, distances

    def _nearest(self, query: np.ndarray, top: int, chosen: str) -> tuple[np.ndarray, np.ndarray]:
        """The ``top`` nearest and those as near as the last of them; distances are our own."""
        limit = min(top + MARGIN, MOST)
        while True:
            with told(self.place):
                (hits,) = self._client.search(
                    self._name,
                    data=[query],
                    filter=chosen,
                    limit=limit,
                    output_fields=['feature'],
                    search_params={'params': {'ef': max(EFFORT, 2 * limit)}},
                )
            images = np.array([hit['id'] for hit in hits], np.int64)
            stored = [hit['entity']['feature'] for hit in hits]
            vectors = np.array(stored, np.float32).reshape(-1, self.width)
            if self.distance == 'cosine':
                values = 1 - (vectors * query).sum(1)
            else:
                values = ((vectors - query) ** 2).sum(1)
            if len(hits) < limit or limit == MOST:
                return images, values
            slack = ROUNDING * float((vectors**2).sum(1).max() + (query**2).sum())
            if values[-1] > values[top - 1] + slack:
                return images, values
            limit = min(4 * limit, MOST)


def check_place(place: str | Path) -> str:
    """A file or address as text; ConfigError for another name."""
    place = str(place)
    if not (is_file(place) or '://' in place):
        raise ConfigError(
            f'gallery {place}: the name of a database ends in .db, or it is an address, as in '
            'http://localhost:19530'
        )
    return place


def is_file(place: str) -> bool:
    """Whether it is the name of a database file, not an address."""
    return place.endswith('.db') and '://' not in place


def connect(place: str, token: str) -> Any:
    """A client of the database in a file or at an address."""
    milvus = import_milvus(place)
    with told(place):
        options = {}
        if is_file(place):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            options['grpc_options'] = NEVER_PING
        return milvus.MilvusClient(place, token=token, timeout=WAIT, **options)


def import_milvus(place: str) -> ModuleType:
    """pymilvus, or :class:`ConfigError` that says how to get it."""
    # Else gRPC writes a line to standard error at each fork, as of a data loader's workers.
    os.environ.setdefault('GRPC_VERBOSITY', 'ERROR')
    try:
        with logging_left_alone():
            import pymilvus

        if is_file(place):
            import milvus_lite  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"gallery {place}: a database needs {error.name}: `pip install 'effvit-mm[gallery]'`"
        ) from error
    return pymilvus


@contextmanager
def logging_left_alone() -> Iterator[None]:
    """Have no configuration take place: pymilvus's, at its import, closes all handlers there are,
    a training's log file too (pymilvus 3.0.2; ``findings/pymilvus_import_closes_handlers.sh``).
    """
    configure, logging.config.dictConfig = logging.config.dictConfig, lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure


@contextmanager
def told(place: str) -> Iterator[None]:
    """What the database refuses, as one line."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        raise DataError(f'gallery {place}: {" ".join(error.message.split())[:200]}') from error


def header_of(collection: str) -> str:
    """Name of the collection with what is known of a gallery as a whole."""
    return f'{collection}_header'


def in_parts(values: list, size: int) -> Iterator[list]:
    """So many at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
