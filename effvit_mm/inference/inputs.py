"""What an inferencer takes: image files, folders of them, arrays, videos, lists of all these.

Images come one after the other and none is kept, so that a folder or a video can be of any length.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np

from ..errors import DataError
from ..openmm.console import quiet_standard_error
from ..utils.image_files import EXTENSIONS, VIDEO_EXTENSIONS, list_images
from ..utils.images import to_bgr

Input: TypeAlias = 'str | Path | np.ndarray | Sequence[str | Path | np.ndarray]'


class Image(NamedTuple):
    """One image to look at.

    Attributes:
        path: Its file, or the video's; None of an array.
        frame: Its number in the video, from 0; None where it is no frame.
        array: ``(H, W, 3)`` uint8, BGR; None of a file, which the test pipeline reads itself.
    """

    path: Path | None
    frame: int | None = None
    array: np.ndarray | None = None

    def __str__(self) -> str:
        if self.path is None:
            return 'array'
        frame = '' if self.frame is None else f', frame {self.frame}'
        return f'{"image" if self.frame is None else "video"} {self.path}{frame}'


# Told of an image that cannot be used, in the place of an error that ends all.
OnFault: TypeAlias = Callable[[DataError], None]


class Video:
    """Frames of a video file, read one by one.

    Attributes:
        fps: Frames a second.
        frames: Their number as the file says it; 0 where it does not.
        size: Height and width.

    Raises:
        DataError: The file is missing, or OpenCV cannot read a frame of it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        capture = self._open()
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps < math.inf else 25.0
        self.frames = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        read, first = capture.read()
        capture.release()
        if not read:
            raise DataError(f'video {path}: not a single frame can be read of it')
        self.size = first.shape[:2]

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise DataError(f'video {self.path}: no such file')
        with quiet_standard_error():  # FFmpeg says on standard error what is an error of ours here
            capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise DataError(
                f'video {self.path} cannot be opened: it is broken, no video, or of a codec that '
                'this OpenCV lacks'
            )
        return capture

    def __iter__(self) -> Iterator[Image]:
        capture = self._open()
        try:
            number = 0
            while True:
                read, frame = capture.read()
                if not read:
                    break
                yield Image(self.path, number, frame)
                number += 1
        finally:
            capture.release()
        if number < 0.99 * self.frames - 1:  # counts of some formats are estimates
            warnings.warn(
                f'video {self.path}: {number} of the {self.frames} frames that it announces can be '
                'read; it seems to be cut short',
                stacklevel=2,
            )


def find_images(inputs: Input) -> list[Image | Video]:
    """Everything that was given, in order: folders opened, arrays checked, files there.

    Of a folder its images are taken, those of its subfolders are not; what else is in it, videos
    too, is counted and named by a warning.

    Raises:
        DataError: A file or folder is missing, a folder has no image, a file is neither an image
            nor a video by its name, an array is no image.
    """
    items = inputs if isinstance(inputs, list | tuple) else [inputs]
    if not items:
        raise DataError('inputs: the list is empty')
    return [file for item in items for file in _find(item)]


def _find(item: str | Path | np.ndarray) -> list[Image | Video]:
    if isinstance(item, np.ndarray):
        return [Image(None, array=to_bgr(item))]
    if not isinstance(item, str | Path):
        raise DataError(
            f'inputs: {type(item).__name__}: a file, a folder, an array or a list of them is needed'
        )
    path = Path(item)
    if path.is_dir():
        found = list_images(path, subfolders=False)
        left_out = found.left_out(path)
        if not found.images:
            more = f'; {left_out}' if left_out else ''
            raise DataError(f'folder {path} has no image ({", ".join(EXTENSIONS)}){more}')
        if left_out:
            warnings.warn(left_out, stacklevel=1)
        return [Image(Path(file)) for file in found.images]
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        return [Video(path)]
    if not path.is_file():
        raise DataError(f'image {path}: no such file or folder')
    if path.suffix.lower() not in EXTENSIONS:
        suffixes = ', '.join([*EXTENSIONS, *VIDEO_EXTENSIONS])
        raise DataError(f'{path}: neither an image nor a video by its name ({suffixes})')
    return [Image(path)]
