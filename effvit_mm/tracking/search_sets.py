"""PRW and CUHK-SYSU in their published layouts: who is to be found, and in which pictures.

PRW (Zheng et al., 2017): ``frames/*.jpg``, ``annotations/<frame>.jpg.mat``, ``frame_test.mat``,
``query_info.txt``. CUHK-SYSU (Xiao et al., 2017): ``Image/SSM/*.jpg`` and
``annotation/test/train_test/TestG<size>.mat``. Coordinates are cut to whole numbers, and in PRW to
the picture's left and upper edge, as the published evaluations do.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError

GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
PRW_BOXES = ('box_new', 'anno_file', 'anno_previous')
PRW_CAMERA = re.compile(r'c(\d)')

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class SearchQuery:
    """Somebody who is looked for.

    Attributes:
        image: The picture's name.
        box: Where in it.
        gallery: Names of the pictures to search in; its own is none of them, even if it is named.
        targets: Where in them the person is, by their names.
    """

    image: str
    box: Box
    gallery: Sequence[str]
    targets: Mapping[str, Box]


@dataclass(frozen=True)
class SearchSet:
    """A data set for person search.

    Attributes:
        images: The folder of the pictures.
        queries: Who is looked for.
    """

    images: Path
    queries: tuple[SearchQuery, ...]

    @property
    def frames(self) -> list[str]:
        """Names of all pictures to search in, each once."""
        galleries = {id(query.gallery): query.gallery for query in self.queries}  # many share one
        return list(dict.fromkeys(name for names in galleries.values() for name in names))


def read_prw(folder: str | Path, other_cameras: bool = False) -> SearchSet:
    """PRW's test set: each query is searched in all other test frames.

    Args:
        folder: Of the data set.
        other_cameras: Only in those of other cameras than the query's.

    Raises:
        ConfigError: SciPy is not installed.
        DataError: A file is missing or is none of PRW's.
    """
    folder = Path(folder)
    names = [f'{name}.jpg' for name in _many(read_mat(folder / 'frame_test.mat', 'img_index_test'))]
    places: dict[int, dict[str, Box]] = defaultdict(dict)
    for name in names:
        rows = read_mat(folder / 'annotations' / f'{name}.mat', *PRW_BOXES)
        rows = np.asarray(rows, float).reshape(-1, 5)
        rows[:, 1:] = np.maximum(rows[:, 1:], 0)
        for person, *box in rows.tolist():
            places[int(person)][name] = _corners(box)
    whole = tuple(names)
    others = {
        camera: tuple(name for name in names if _camera(name) != camera)
        for camera in {_camera(name) for name in names if other_cameras}
    }
    queries = []
    for person, wanted, image in _prw_queries(folder / 'query_info.txt'):
        gallery = others.get(_camera(image), whole)
        kept = set(gallery) - {image}
        targets = {name: where for name, where in places[person].items() if name in kept}
        queries.append(SearchQuery(image, wanted, gallery, targets))
    return SearchSet(folder / 'frames', tuple(queries))


def _prw_queries(path: Path) -> list[tuple[int, Box, str]]:
    """Person, box and picture of each line."""
    found = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        try:
            person, *box, image = line.split()
            left, top, right, bottom = _corners([float(value) for value in box])
            found.append((int(person), (max(left, 0), max(top, 0), right, bottom), f'{image}.jpg'))
        except ValueError as error:
            raise DataError(
                f'{path}, line {number}: {line!r}: person, left, top, width, height and frame are '
                'needed'
            ) from error
    return found


def _camera(name: str) -> int:
    found = PRW_CAMERA.search(name)
    if found is None:
        raise DataError(f'frame {name}: no camera in its name, as in c1s1_000151.jpg')
    return int(found[1])


def read_cuhk_sysu(folder: str | Path, size: int = 100) -> SearchSet:
    """CUHK-SYSU's test set: each query has its own pictures to search in.

    Args:
        folder: Of the data set.
        size: How many pictures: 50, 100, 500, 1000, 2000 or 4000.

    Raises:
        ConfigError: Another size, or SciPy is not installed.
        DataError: A file is missing or is none of CUHK-SYSU's.
    """
    if size not in GALLERY_SIZES:
        raise ConfigError(f'gallery size {size}: one of {", ".join(map(str, GALLERY_SIZES))}')
    folder, name = Path(folder), f'TestG{size}'
    path = folder / 'annotation' / 'test' / 'train_test' / f'{name}.mat'
    queries, rows = [], _many(read_mat(path, name))
    try:
        for row in rows:
            scenes = [(str(item['imname']), item['idlocate']) for item in _many(row['Gallery'])]
            targets = {image: _corners(box) for image, box in scenes if np.size(box)}
            query = row['Query']
            queries.append(
                SearchQuery(
                    str(query['imname']),
                    _corners(query['idlocate']),
                    tuple(image for image, _ in scenes),
                    targets,
                )
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f'{path}: row {len(queries) + 1} of {name}: {error!r}') from error
    return SearchSet(folder / 'Image' / 'SSM', tuple(queries))


def read_mat(path: Path, *names: str) -> Any:
    """The first of these variables that a MATLAB file has, structs as dictionaries.

    Raises:
        ConfigError: SciPy is not installed.
        DataError: The file is missing, is no MATLAB file, or has none of them.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ModuleNotFoundError as error:
        raise ConfigError("PRW's and CUHK-SYSU's files need SciPy: `pip install scipy`") from error
    try:
        with path.open('rb') as file:
            found = loadmat(file, simplify_cells=True)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}') from error
    except (ValueError, NotImplementedError, MatReadError) as error:
        raise DataError(f'{path}: no MATLAB file: {error}') from error
    for name in names:
        if name in found:
            return found[name]
    raise DataError(f'{path}: no variable {" or ".join(names)} in it')


def _many(value: Any) -> list:
    """What ``simplify_cells`` gave, with the list back that one item came without."""
    if isinstance(value, np.ndarray):
        return list(np.atleast_1d(value))
    return value if isinstance(value, list) else [value]


def _corners(box: Sequence[float]) -> Box:
    """Of left, top, width, height, cut to whole numbers."""
    left, top, width, height = (float(value) for value in box)
    return (
        float(int(left)), float(int(top)), float(int(left + width)), float(int(top + height)),
    )  # fmt: skip


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: {getattr(error, "strerror", None) or error}') from error
