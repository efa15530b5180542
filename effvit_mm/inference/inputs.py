"""What an inferencer takes: files, folders, patterns, arrays, videos, cameras, streams, lists.

Images come one after the other and none is kept, so that a folder, a video or a stream can be of
any length.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from glob import glob, has_magic
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image as Pillow

from ..errors import DataError
from ..utils.image_files import (
    EXTENSIONS,
    UNREAD_EXTENSIONS,
    VIDEO_EXTENSIONS,
    Listing,
    list_images,
)
from ..utils.images import from_pillow, to_bgr
from .videos import ADDRESS, Image, Live, Video

Item: TypeAlias = 'str | Path | int | np.ndarray | Pillow.Image'
Input: TypeAlias = 'Item | Iterable[Item]'
# Told of an image that cannot be used, in the place of an error that ends all.
OnFault: TypeAlias = Callable[[DataError], None]
NO_ITEMS = (bytes, bytearray, Mapping, Set, torch.Tensor)


class Stream(NamedTuple):
    """Items that come one by one, looked at as they come; arrays are numbered as its frames."""

    items: Iterable[Item]
    options: Options


class Options(NamedTuple):
    """How inputs are meant.

    Attributes:
        subfolders: Of folders those in them are looked into, too.
        rgb: Arrays have red first; else blue, as OpenCV's. Other inputs know it themselves.
    """

    subfolders: bool = False
    rgb: bool = False


Found: TypeAlias = 'Image | Video | Live | Stream'


def find_images(
    inputs: Input,
    subfolders: bool = False,
    rgb: bool = False,
    on_fault: OnFault | None = None,
) -> list[Found]:
    """Everything that was given, in order: folders opened, arrays checked, files there.

    What a folder or a pattern has beside images is counted and named by a warning.

    Args:
        inputs: As of :class:`~effvit_mm.Classifier`.
        subfolders: Look into the folders in folders.
        rgb: Arrays have red first.
        on_fault: Gets the errors of those that cannot be used, while there are others.

    Raises:
        DataError: A file or folder is missing, a folder has no image, a file is neither an image
            nor a video by its name, an array is no image; without ``on_fault``, or of the last of
            inputs none of which can be used.
    """
    options = Options(subfolders, rgb)
    items = inputs if isinstance(inputs, list | tuple) else [inputs]
    if not items:
        raise DataError('inputs: the list is empty')
    found: list[Found] = []
    errors: list[DataError] = []
    for item in items:
        try:
            found += _find(item, options)
        except DataError as error:
            if on_fault is None:
                raise
            errors.append(error)
    for error in errors if found else errors[:-1]:
        on_fault(error)
    if not found:
        raise errors[-1]
    return found


def _find(item: Any, options: Options) -> Sequence[Found]:
    """Of one item; a list in the list is one, too."""
    if isinstance(item, np.ndarray):
        return [Image(None, array=to_bgr(item, options.rgb))]
    if isinstance(item, Pillow.Image):  # read when its turn comes: many share memory with nobody
        return [Stream([item], options)]
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        return [Live(int(item))]
    if isinstance(item, str | Path):
        return _find_files(item, options)
    if isinstance(item, Iterable) and not isinstance(item, NO_ITEMS):
        return [Stream(item, options)]
    raise DataError(
        f'inputs: {type(item).__name__}: a file, a folder, an array, an image of Pillow, the '
        'number of a camera or a list of them is needed'
    )


def _find_files(item: str | Path, options: Options) -> Sequence[Found]:
    if isinstance(item, str) and ADDRESS.match(item):
        return [Live(item)]
    path = Path(item)
    if path.is_dir():
        return _in_folder(path, options.subfolders)
    if not path.exists() and has_magic(str(item)):
        return _matching(str(item))
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        return [Video(path)]
    if not path.is_file():
        raise DataError(f'image {path}: no such file or folder')
    if path.suffix.lower() not in EXTENSIONS:
        suffixes = ', '.join([*EXTENSIONS, *VIDEO_EXTENSIONS])
        raise DataError(f'{path}: neither an image nor a video by its name ({suffixes})')
    return [Image(path)]


def _in_folder(folder: Path, subfolders: bool) -> list[Image]:
    found = list_images(folder, subfolders)
    left_out = found.left_out(folder)
    if not found.images:
        more = f'; {left_out}' if left_out else ''
        if found.unopened:
            more += '; to look into them give --subfolders (subfolders=True)'
        if found.videos:
            more += f'; give videos by their names, as {folder}/*{Path(found.videos[0]).suffix}'
        raise DataError(f'folder {folder} has no image ({", ".join(EXTENSIONS)}){more}')
    if left_out:
        warnings.warn(left_out, stacklevel=1)
    return [Image(Path(file)) for file in found.images]


def _matching(pattern: str) -> list[Image | Video]:
    """Images and videos that a pattern names, sorted; folders are not opened."""
    paths = [
        path for name in sorted(glob(pattern, recursive=True)) if (path := Path(name)).is_file()
    ]
    kinds = {Image: EXTENSIONS, Video: VIDEO_EXTENSIONS}
    found, passed = [], Listing()
    for path in paths:
        kind = next((kind for kind, ends in kinds.items() if path.suffix.lower() in ends), None)
        if kind is None:
            unread = path.suffix.lower() in UNREAD_EXTENSIONS
            (passed.unread if unread else passed.others).append(str(path))
        else:
            found.append(kind(path))
    told = passed.told(os.path.commonpath([path.parent for path in paths])) if paths else ''
    if not found:
        raise DataError(
            f'pattern {pattern}: no image or video has such a name{"; " if told else ""}{told}'
        )
    if told:
        warnings.warn(f'pattern {pattern}: {told}', stacklevel=1)
    return found


def images_of(found: Iterable[Found], on_fault: OnFault | None = None) -> Iterator[Image]:
    """All images and frames of what was found, one by one.

    Raises:
        DataError: What a stream gives cannot be used, without ``on_fault``.
    """
    for one in found:
        if isinstance(one, Image):
            yield one
        elif isinstance(one, Stream):
            yield from _streamed(one, on_fault)
        else:
            yield from _played(one, on_fault)


def _played(video: Video | Live, on_fault: OnFault | None) -> Iterator[Image]:
    """Frames; a file that is gone when its turn comes is an input that cannot be used."""
    try:
        yield from video
    except DataError as error:
        if on_fault is None:
            raise
        on_fault(error)


def _streamed(stream: Stream, on_fault: OnFault | None) -> Iterator[Image]:
    alone = isinstance(stream.items, list)  # an image of Pillow
    for number, item in enumerate(stream.items):
        try:
            if isinstance(item, Pillow.Image):
                found: Sequence[Found] = [Image(None, array=_of_pillow(item))]
            else:
                found = _find(item, stream.options)
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(error)
            continue
        for image in images_of(found, on_fault):
            given = image.path is None and not alone
            yield image._replace(frame=number) if given else image


def _of_pillow(image: Pillow.Image) -> np.ndarray:
    try:
        return from_pillow(image)
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        name = getattr(image, 'filename', '')
        called = f'image {name}' if name else f'image of Pillow ({image.mode}, {image.size})'
        raise DataError(f'{called} cannot be read: {error}') from error
