"""Frames of video files, cameras and addresses, read one by one."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..errors import DataError
from ..openmm.console import quiet_standard_error
from ..utils.images import load_image

ADDRESS = re.compile(r'(rtsp|rtsps|rtmp|rtmps|http|https|udp|tcp|srt)://', re.IGNORECASE)
LOGIN = re.compile(r'(?<=://)[^/@]*@')


class Image(NamedTuple):
    """One image to look at.

    Attributes:
        path: Its file, or the video's; the name of a camera or an address; None of an array.
        frame: Its number in the video or stream, from 0; None where it is no frame.
        array: ``(H, W, 3)`` uint8, BGR; None of a file, which the test pipeline reads itself.
    """

    path: Path | str | None
    frame: int | None = None
    array: np.ndarray | None = None

    def __str__(self) -> str:
        frame = '' if self.frame is None else f', frame {self.frame}'
        if self.path is None:
            return f'array{frame}'
        if isinstance(self.path, str):
            return f'{self.path}{frame}'
        return f'{"image" if self.frame is None else "video"} {self.path}{frame}'

    def pixels(self) -> np.ndarray:
        """``(H, W, 3)`` uint8, BGR; a DataError where its file cannot be read."""
        return load_image(self.path) if self.array is None else self.array

    @property
    def name(self) -> str | None:
        """As results call it."""
        return None if self.path is None else str(self.path)


class Video:
    """Frames of a video file.

    Attributes:
        fps: Frames a second.
        frames: Their number as the file says it; 0 where it does not.
        size: Height and width.

    Raises:
        DataError: The file is missing, or a picture, or OpenCV cannot read a frame of it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        capture = self._open()
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps < math.inf else 25.0
        self.frames = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        read, first = capture.read()
        more = capture.grab()
        capture.release()
        if not read:
            raise DataError(f'video {path}: not a single frame can be read of it')
        if not more and cv2.haveImageReader(str(path)):
            raise DataError(f'video {path} is a picture: give it a name that says so, as in x.jpg')
        self.size = first.shape[:2]

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise DataError(f'video {self.path}: no such file')
        capture = open_capture(str(self.path))
        if capture is None:
            raise DataError(
                f'video {self.path} cannot be opened: it is broken, no video, or of a codec that '
                'this OpenCV lacks'
            )
        return capture

    def __iter__(self) -> Iterator[Image]:
        return self.read()

    def read(self, first: int = 0, every: int = 1) -> Iterator[Image]:
        """Frames from ``first`` on, of which each ``every``-th; the others are decoded alone."""
        number = first - every
        for number, array in frames_of(self._open(), first, every):
            yield Image(self.path, number, array)
        number += every
        if number < 0.99 * self.frames - 1:  # counts of some formats are estimates
            warnings.warn(
                f'video {self.path}: {number} of the {self.frames} frames that it announces can be '
                'read; it seems to be cut short',
                stacklevel=2,
            )


class Live:
    """Frames of a camera or an address as they come, until there are none any more.

    Args:
        source: Number of a camera, from 0; or an address that OpenCV's FFmpeg opens: RTSP, HTTP.

    Attributes:
        name: ``'camera 0'``, or the address without user and password.
        frames: Their number where the source says it, as a file behind an address does; else 0.

    Raises:
        DataError: It cannot be opened.
    """

    def __init__(self, source: int | str) -> None:
        self.source = source
        camera = isinstance(source, int)
        self.name = f'camera {source}' if camera else LOGIN.sub('', source)
        self._opened: cv2.VideoCapture | None = self._open()
        self.frames = max(int(self._opened.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def _open(self) -> cv2.VideoCapture:
        capture = open_capture(self.source)
        if capture is None:
            camera = isinstance(self.source, int)
            reason = 'there is none, or another program has it' if camera else 'nothing answers'
            raise DataError(
                f'{self.name} cannot be opened: {reason}, or this OpenCV lacks what it needs'
            )
        return capture

    def __iter__(self) -> Iterator[Image]:
        # Opened once: a camera takes a second, and others do not answer twice.
        capture, self._opened = self._opened or self._open(), None
        number = 0
        for number, array in frames_of(capture):
            yield Image(self.name, number, array)
            number += 1
        if self.frames == 0 or number < self.frames:  # a camera or a stream ends by a fault
            warnings.warn(f'{self.name}: no frame comes after {number}', stacklevel=2)


def open_capture(source: int | str) -> cv2.VideoCapture | None:
    """What OpenCV reads frames with; None where it cannot open the source."""
    with quiet_standard_error():  # FFmpeg says on standard error what is an error of ours here
        capture = cv2.VideoCapture(source)
    return capture if capture.isOpened() else None


def frames_of(
    capture: cv2.VideoCapture, first: int = 0, every: int = 1
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames from ``first`` on, of which each ``every``-th: number and ``(H, W, 3)`` uint8, BGR.

    The capture is closed at the end.
    """
    try:
        for number in itertools.count():
            if not capture.grab():
                return
            if number >= first and (number - first) % every == 0:
                read, frame = capture.retrieve()
                if not read:
                    return
                yield number, frame
    finally:
        capture.release()
