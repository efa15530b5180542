"""The one contract of classifiers, detectors and extractors: what goes in, how, what comes out."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ..errors import ConfigError
from .batches import Done, check_batch_size, run_in_batches, with_bar
from .faults import Faults
from .inputs import Found, Input, OnFault, find_images
from .results import Result
from .videos import Image, Live

R = TypeVar('R', bound=Result)
ON_ERROR = ('raise', 'skip')


class Network(Protocol):
    """Images, one by one, and then what is found in several that are of one size."""

    def load(self, image: Image) -> Any:
        """An image as the network takes it; a DataError for one that cannot be read."""

    def shape(self, loaded: Any) -> Sequence[int]:
        """Of what was loaded: those of one shape can be looked at together."""

    def compute(self, loaded: Sequence[Any], **options: Any) -> Sequence[Any]:
        """What is found in each."""


class Inferencer(ABC, Generic[R]):
    """A trained network on images of all kinds; see :meth:`__call__`.

    Attributes:
        network: A model of a config, or an exported file.
        batch_size: Of calls that name none.
    """

    batch_size: ClassVar[int] = 32
    doing: ClassVar[str]
    network: Network

    def __call__(
        self,
        inputs: Input,
        batch_size: int | None = None,
        progress: bool = False,
        *,
        rgb: bool = False,
        subfolders: bool = False,
        on_error: str = 'raise',
    ) -> Sequence[R]:
        """Look at images.

        Args:
            inputs: An image file, a folder, a pattern (``'shots/*/*.jpg'``), a video, an array, an
                image of Pillow, the number of a camera, an RTSP or HTTP address, a list of these;
                or an iterator of them, which is asked for one batch at a time. Arrays are uint8:
                ``(H, W, 3)``, with alpha ``(H, W, 4)``, or grey ``(H, W)``.
            batch_size: Images that go through the network together: results are the same. None: as
                the class has it, and 1 of cameras and addresses, whose frames should not wait.
            progress: Say how far it is: a bar on a terminal, else lines.
            rgb: Arrays have red first; else blue, as OpenCV's.
            subfolders: Look into folders in a folder, too.
            on_error: Of inputs that are missing or unreadable. ``'raise'``: the error ends all, so
                that results and inputs always belong together one by one: the default in Python.
                ``'skip'``: they are left out, each is named by a warning, and at the end counted:
                the default of the command lines, which name each image in its result.

        Raises:
            DataError: An input is missing, unreadable or of another kind; before the first image is
                looked at where it can be known by then.
            ConfigError: An argument is out of its range.
        """
        options = {'rgb': rgb, 'subfolders': subfolders, 'on_error': on_error}
        return list(self.stream(inputs, batch_size, progress, **options))

    def stream(
        self,
        inputs: Input,
        batch_size: int | None = None,
        progress: bool = False,
        *,
        rgb: bool = False,
        subfolders: bool = False,
        on_error: str = 'raise',
    ) -> Iterator[R]:
        """The same one by one, as they are asked for: for any number of inputs."""
        pairs = self.stream_with_images(
            inputs, batch_size, progress, rgb=rgb, subfolders=subfolders, on_error=on_error
        )
        return (result for _, result in pairs)

    def stream_with_images(
        self,
        inputs: Input,
        batch_size: int | None = None,
        progress: bool = False,
        *,
        rgb: bool = False,
        subfolders: bool = False,
        on_error: str = 'raise',
        **options: Any,
    ) -> Iterator[tuple[Image, R]]:
        """The same with the images: their ``array`` is that of a frame, None of an image file."""
        if on_error not in ON_ERROR:
            raise ConfigError(f'on_error={on_error!r}: choose from {", ".join(ON_ERROR)}')
        faults = Faults(_warn) if on_error == 'skip' else None
        found = find_images(inputs, subfolders, rgb, faults)
        pairs = self.run(found, batch_size, progress, faults, **options)
        return pairs if faults is None else _counted(pairs, faults)

    def run(
        self,
        found: Sequence[Found],
        batch_size: int | None = None,
        progress: bool = False,
        on_fault: OnFault | None = None,
        done: Done | None = None,
        **options: Any,
    ) -> Iterator[tuple[Image, R]]:
        """The same of inputs that were found already, for programs.

        Args:
            found: What ``find_images`` gave.
            batch_size, progress: As of a call.
            on_fault: Gets the error of each image that cannot be used; None: it ends all.
            done: Whether an image needs no result any more.
            **options: The task's own.
        """
        if batch_size is None:
            live = any(isinstance(one, Live) for one in found)
            batch_size = 1 if live else self.batch_size
        check_batch_size(batch_size)
        self.check(**options)
        images = with_bar(found, progress, self.doing, on_fault)

        def compute(loaded: Sequence[Any]) -> Sequence[Any]:
            return self.network.compute(loaded, **options)

        pairs = run_in_batches(
            images, self.load, self.network.shape, compute, batch_size, on_fault, done
        )
        return ((image, self.result(image, found)) for image, found in pairs)

    def load(self, image: Image) -> Any:
        """One image as the network takes it."""
        return self.network.load(image)

    def check(self) -> None:
        """Raise where one of the task's own options is out of its range."""

    @abstractmethod
    def result(self, image: Image, found: Any) -> R:
        """Of what the network gave for an image."""


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


def _counted(pairs: Iterator[tuple[Image, R]], faults: Faults) -> Iterator[tuple[Image, R]]:
    count = 0
    for pair in pairs:
        count += 1
        yield pair
    faults.conclude(count)
