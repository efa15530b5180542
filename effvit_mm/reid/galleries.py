"""Galleries of all kinds, by one interface: in memory, in a folder, in a database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ConfigError
from .database_gallery import DatabaseGallery, import_milvus, is_file
from .features import ReIDFeatures
from .large_gallery import LargeGallery
from .search import Gallery
from .vector_index import INDICES, import_faiss
from .where import Where

LARGE = LargeGallery.index
KINDS = (*INDICES, LARGE)


class AnyGallery(Protocol):
    """What every gallery can do: :class:`Gallery` says how."""

    width: int
    model: str
    distance: str
    index: str
    preparation: str
    count: int

    def __len__(self) -> int: ...

    def add(
        self, features: ReIDFeatures, columns: Mapping[str, Sequence[Any]] | None = None
    ) -> np.ndarray: ...

    def update(
        self,
        numbers: Sequence[int],
        features: ReIDFeatures,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None: ...

    def delete(self, numbers: Sequence[int]) -> None: ...

    def take(self, numbers: Sequence[int]) -> tuple[ReIDFeatures, dict[str, list[Any]]]: ...

    def find(self, where: Where | None = None) -> np.ndarray: ...

    def search(
        self,
        features: ReIDFeatures,
        top: int = 10,
        *,
        other_cameras: bool = False,
        where: Where | None = None,
    ) -> tuple[np.ndarray, np.ndarray]: ...


def create_gallery(
    place: str | Path,
    width: int,
    model: str = '',
    *,
    index: str = 'exact',
    distance: str = 'cosine',
    preparation: str = '',
) -> AnyGallery:
    """An empty gallery for a place.

    Args:
        place: A file (:class:`Gallery`, with ``'exact'`` and ``'approximate'``), a folder
            (:class:`LargeGallery`, with ``'large'``), or a database, by an address or a name ending
            in ``.db`` (:class:`DatabaseGallery`, with ``'exact'`` and ``'approximate'``).
        width, model, distance, preparation: As of :class:`Gallery`.
        index: One of :data:`KINDS`.

    Raises:
        ConfigError: An argument that cannot be, a package is missing, or there is such a gallery in
            the folder or database.
    """
    if index not in KINDS:
        raise ConfigError(f'index={index!r}: choose from {", ".join(KINDS)}')
    settings = {'distance': distance, 'preparation': preparation}
    if is_database(place):
        return DatabaseGallery.create(place, width, model, index=index, **settings)
    if index == LARGE:
        return LargeGallery.create(place, width, model, **settings)
    return Gallery(width, model, index=index, **settings)


def check_kind(place: str | Path, index: str) -> None:
    """Raise a ConfigError for what a gallery lacks that is filled later, after long work."""
    if is_database(place):
        if index == LARGE:
            raise ConfigError(f'index {LARGE}: it is a folder, not a database like {place}')
        import_milvus(str(place))
    elif index != 'exact':
        import_faiss()


def open_gallery(place: str | Path, *, model: str = '', width: int | None = None) -> AnyGallery:
    """The gallery of a file, a folder or a database; arguments are those of :meth:`Gallery.load`.

    Raises:
        ConfigError: A package is missing.
        DataError: There is none, it is broken, or of another model or width.
    """
    if is_database(place):
        return DatabaseGallery.open(place, model=model, width=width)
    if Path(place).is_dir():
        return LargeGallery.open(place, model=model, width=width)
    return Gallery.load(place, model=model, width=width)


def finish(gallery: AnyGallery, place: str | Path) -> None:
    """After additions: write a gallery in memory to its file, have others index what is new."""
    if isinstance(gallery, Gallery):
        gallery.save(place)
    else:
        gallery.build()


@contextmanager
def closing(gallery: AnyGallery) -> Iterator[AnyGallery]:
    """Give a gallery; a database is closed when the block ends, and free for other processes."""
    try:
        yield gallery
    finally:
        if isinstance(gallery, DatabaseGallery):
            gallery.close()


def is_there(place: str | Path) -> bool:
    """Whether a place has a gallery, or another file; errors are those of :func:`open_gallery`."""
    return DatabaseGallery.exists(place) if is_database(place) else Path(place).exists()


def is_database(place: str | Path) -> bool:
    """Whether it is a name of a database file, or an address."""
    return is_file(str(place)) or '://' in str(place)
