"""What every kind of gallery asks of what it is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from .distances import DISTANCES
from .features import ReIDFeatures
from .vector_index import INDICES


def check_features(features: ReIDFeatures, width: int, model: str, preparation: str) -> None:
    """Raise :class:`DataError` for features of another kind, or that are not finite."""
    own = ReIDFeatures(np.empty((0, width)), [], [], (), model, 'the gallery', preparation)
    own.check_same_space(features)
    features.check_finite()


def check_columns(
    columns: Mapping[str, Sequence[Any]] | None, count: int, there: Collection[str] | None
) -> dict[str, list[Any]]:
    """Columns as lists of ``count`` values; their names are those ``there``, if it has any yet.

    Raises:
        DataError: Other names or lengths.
    """
    columns = {name: list(values) for name, values in (columns or {}).items()}
    if there is not None and set(columns) != set(there):
        raise DataError(f'columns {sorted(columns)}: the gallery has {sorted(there) or "none"}')
    for name, values in columns.items():
        if len(values) != count:
            raise DataError(f'column {name!r}: {len(values)} values for {count} features')
    return columns


def check_numbers(
    numbers: Sequence[int], there: Callable[[np.ndarray], np.ndarray], once: bool = True
) -> np.ndarray:
    """Numbers of images, (n,) int64.

    Args:
        numbers: As given.
        there: Says of numbers from 0 on, (n,), which are images of the gallery.
        once: None may come twice.

    Raises:
        DataError: There is no such image, or one comes twice.
    """
    given = np.asarray(numbers, dtype=np.int64 if len(numbers) == 0 else None)
    if given.ndim != 1 or given.dtype.kind not in 'iu':
        raise DataError(f'numbers of images: {given.dtype} of shape {given.shape}, not (n,) int64')
    given = given.astype(np.int64)
    missing = given < 0
    missing[~missing] = ~there(given[~missing])
    if missing.any():
        raise DataError(
            f'image {given[missing][0]}: the gallery has no such image ({missing.sum()} of '
            f'{len(given)} are not there)'
        )
    if once and len(np.unique(given)) != len(given):
        raise DataError(f'numbers of images: {len(given)} are given, but some twice')
    return given


def check_count(numbers: np.ndarray, features: ReIDFeatures) -> None:
    """Raise :class:`DataError` where there is not a feature for each number."""
    if len(numbers) != len(features):
        raise DataError(f'{len(features)} features for {len(numbers)} images')


def check_search(top: int, count: int) -> None:
    """Raise an error where nothing is wanted, or there is nothing to find."""
    if top < 1:
        raise ConfigError(f'top={top}: must be 1 or more')
    if count == 0:
        raise DataError('the gallery is empty: there is nothing to search')


def check_cameras(queries: np.ndarray, images: np.ndarray) -> None:
    """Raise :class:`DataError` where cameras of queries or images, (n,) each, are not known."""
    for camids, whose in ((queries, 'queries'), (images, 'images of the gallery')):
        if unknown := int((camids < 0).sum()):
            raise DataError(
                f'the cameras of {unknown} of {len(camids)} {whose} are not known: those of '
                'other cameras cannot be told'
            )


def check_identity(
    place: str | Path, has: tuple[int, str], width: int | None = None, model: str = ''
) -> None:
    """Raise :class:`DataError` where a gallery is not of the width and model that are expected.

    Args:
        place: Where it is.
        has: Its width and model.
        width, model: What is expected; None and empty: any.
    """
    if width is not None and has[0] != width:
        raise DataError(f'gallery {place} has features of width {has[0]}, expected {width}')
    if model and has[1] != model:
        theirs = f'the model {has[1]}' if has[1] else 'an unnamed model'
        raise DataError(f'gallery {place} has features of {theirs}, not of {model}')


def check_header(known: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of its gallery, ``width``, ``model``, ``index`` and ``distance``.

    Raises:
        ValueError: One of them cannot be.
    """
    possible = {'index': INDICES, 'distance': DISTANCES}
    for name, value in known.items():
        kind = int if name == 'width' else str
        wrong = not isinstance(value, kind) or (name == 'width' and value < 1)
        if wrong or (name in possible and value not in possible[name]):
            raise ValueError(f'its header has {name}={value!r}')
    return dict(known)
