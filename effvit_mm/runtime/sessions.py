"""What all ways of running a file share: what they are, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..errors import ConfigError
from .graph import ExportError, Size
from .layout import Layout


class Session(Protocol):
    """A file, opened by a runtime: images to a list of arrays."""

    @property
    def path(self) -> Path:
        """Of the file."""

    @property
    def layout(self) -> Layout:
        """Of the images."""

    @property
    def sides(self) -> Sequence[int | None]:
        """Height and width of the images; None where any will do."""

    @property
    def further(self) -> Sequence[str]:
        """Names of what it takes behind images, each ``(B, ...)``."""

    @property
    def about(self) -> Mapping[str, str]:
        """What the file says of itself: :meth:`DeployedNetwork.metadata`."""

    def __init__(self, path: str | Path, precision: str = 'fp32', **options: Any) -> None: ...

    @staticmethod
    def checked(precision: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options, with the runtime's defaults; a ConfigError for what it does not take."""

    def __call__(self, images: Tensor, *further: Tensor) -> list[np.ndarray]: ...


def check_images(
    images: Tensor, layout: Layout, sides: Sequence[int | None], title: str | Path
) -> Size:
    """Height and width of images.

    Args:
        images: What a session was called with.
        layout: That it takes.
        sides: Height and width that the graph was made for; None where it is for any.
        title: Of the graph, for the message.

    Raises:
        ConfigError: They lie in memory in another way, or are of a size that the graph is not for.
    """
    shape, right = tuple(images.shape), images.ndim == 4 and images.dtype == layout.dtype
    if not right or shape[layout.channels] != 3 or not shape[0]:
        raise ConfigError(
            f'images of shape {shape} in {images.dtype}: one or more in {layout}, are needed'
        )
    height, width = layout.sides(shape)
    if any(made not in (None, side) for made, side in zip(sides, (height, width), strict=True)):
        made = ' x '.join('any' if side is None else str(side) for side in sides)
        raise ConfigError(f'images of {height} x {width} pixels: {title} was made for {made}')
    return height, width


def check_further(
    further: Sequence[Tensor], names: Sequence[str], batch: int, title: str | Path
) -> None:
    """Raise where what is given behind images is not what a graph takes of each.

    Raises:
        ConfigError: There is more or less than that, or not of as many images.
    """
    if [len(tensor) for tensor in further] != [batch] * len(names):
        shapes = ', '.join(str(tuple(tensor.shape)) for tensor in further) or 'nothing'
        wanted = ', '.join(f'{name} ({batch}, ...)' for name in names) or 'nothing'
        raise ConfigError(f'{title}: behind the images it takes {wanted}, not {shapes}')


def each_image(*inputs: Tensor) -> Iterator[list[np.ndarray]]:
    """The inputs of each image of a batch: a batch of one."""
    arrays = [np.ascontiguousarray(tensor.numpy()) for tensor in inputs]
    for place in range(len(arrays[0])):
        yield [array[place : place + 1] for array in arrays]


def reason(error: Exception) -> str:
    """The last line of a library's message, behind its own file names."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what a library raises for a broken file into one line.

    Raises:
        ExportError: The file is missing, cut short or none of this kind.
    """
    if not Path(path).is_file():
        raise ExportError(f'{path}: there is no such file')
    try:
        yield
    except ExportError:
        raise
    except Exception as error:  # each library has its own kinds
        raise ExportError(
            f'{path} cannot be read, it is cut short or of another kind: {reason(error)}'
        ) from error


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what a library raises when it cannot write into one line.

    Raises:
        ExportError: The disk is full, or the file cannot be written for another reason.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise ExportError(
            f'{path} cannot be written (is the disk full?): {reason(error)}'
        ) from error
