"""Images one after the other, in batches that the network gets in one size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import track

from ..errors import ConfigError, DataError
from .inputs import Image, Input, OnFault, Video, find_images

Batch = list[tuple[Image, Any]]


def open_images(inputs: Input, progress: bool, doing: str) -> Iterable[Image]:
    """Images and frames of all inputs; a bar on the terminal, if asked for, says what is done.

    Raises:
        DataError: An input is missing or of another kind.
    """
    return with_bar(find_images(inputs), progress, doing)


def with_bar(files: Sequence[Image | Video], progress: bool, doing: str) -> Iterable[Image]:
    """The same of inputs that were found already."""
    images = _frames(files)
    if not progress:
        return images
    total = sum(file.frames if isinstance(file, Video) else 1 for file in files)
    console = Console(stderr=True)
    return track(images, doing, total or None, console=console, disable=not console.is_terminal)


def _frames(files: Iterable[Image | Video]) -> Iterator[Image]:
    for file in files:
        if isinstance(file, Video):
            yield from file
        else:
            yield file


def in_batches(
    images: Iterable[Image],
    load: Callable[[Image], Any],
    shape: Callable[[Any], Sequence[int]],
    batch_size: int,
    on_fault: OnFault | None = None,
) -> Iterator[Batch]:
    """Images with what was loaded of them, at most ``batch_size`` at a time.

    They share a batch only where the network gets them in one size, so that no result depends on
    what else is in the batch. With ``on_fault`` an image that cannot be used is left out, and its
    DataError handed over; without it the error ends all.
    """
    batch: Batch = []
    for image in images:
        try:
            loaded = load(image)
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(error)
            continue
        if batch and shape(loaded) != shape(batch[0][1]):
            yield batch
            batch = []
        batch.append((image, loaded))
        if len(batch) == batch_size:  # at once: the next image may end all
            yield batch
            batch = []
    if batch:
        yield batch


def check_batch_size(batch_size: int) -> None:
    """Raise where it is no number of images."""
    if batch_size < 1:
        raise ConfigError(f'batch_size={batch_size}: 1 or more is needed')
