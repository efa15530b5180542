"""What is tracked in: video files, and folders of numbered images as the MOT Challenge has them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ..errors import ConfigError, DataError
from ..tracking.mot import SEQUENCE_FILE, SequenceInfo, read_sequence
from ..utils.images import load_image
from .videos import Image, Video


class Footage(Protocol):
    """Frames in their order.

    Attributes:
        path: File or folder.
        fps: Frames a second.
        frames: Their number as far as it is known; else 0.
        size: Height and width.
    """

    path: Path
    fps: float
    frames: int
    size: tuple[int, int]

    def __iter__(self) -> Iterator[Image]:
        """Frames with their arrays, ``(H, W, 3)`` uint8, BGR."""

    def read(self, first: int = 0, every: int = 1) -> Iterator[Image]:
        """Those from ``first`` on, of which each ``every``-th."""


class ImageSequence:
    """A folder in the MOT Challenge's layout, as a video.

    Raises:
        DataError: An image is missing or broken.
    """

    def __init__(self, info: SequenceInfo) -> None:
        self.info, self.path = info, info.folder
        self.fps, self.frames = info.fps, info.frames
        if self.frames < 1:
            raise DataError(f'{info.folder / SEQUENCE_FILE}: seqLength={info.frames}: 1 or more')
        self.size = load_image(info.image(0)).shape[:2]

    def __iter__(self) -> Iterator[Image]:
        return self.read()

    def read(self, first: int = 0, every: int = 1) -> Iterator[Image]:
        for frame in range(first, self.frames, every):
            yield Image(self.path, frame, load_image(self.info.image(frame)))


def open_footage(path: str | Path) -> Footage:
    """A video file, or a folder with ``seqinfo.ini``.

    Raises:
        DataError: Neither, missing, or without a readable frame.
    """
    path = Path(path)
    if not path.is_dir():
        return Video(path)
    info = read_sequence(path)
    return ImageSequence(info) if info.video is None else Video(info.video)


def open_each(paths: Sequence[str | Path]) -> list[Footage]:
    """The footage of several cameras.

    Raises:
        ConfigError: Two are one: a video and a folder whose ``seqinfo.ini`` names it, or a path
            that is given twice. Who is in it would be found in two cameras.
        DataError: As of :func:`open_footage`.
    """
    given: dict[Path, str | Path] = {}
    opened = []
    for path in paths:
        footage = open_footage(path)
        other = given.setdefault(footage.path.resolve(), path)
        if len(given) == len(opened):
            raise ConfigError(
                f'videos: {path} is the same footage as {other}, and all in it would be found in '
                'two cameras; give it once'
            )
        opened.append(footage)
    return opened


def footage_names(paths: Sequence[str | Path], taken: Collection[str] = ()) -> list[str]:
    """A name for each, of its file or folder; equal ones get a number: ``clip``, ``clip_2``.

    ``taken``: names of others.
    """
    names: list[str] = []
    for path in map(Path, paths):
        stem = path.resolve().name if path.is_dir() else path.stem
        name, number = stem, 1
        while name in names or name in taken:
            number += 1
            name = f'{stem}_{number}'
        names.append(name)
    return names
