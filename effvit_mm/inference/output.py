"""What an inferencer leaves on the disk: detections as JSON lines, pictures, videos."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from ..openmm.cli import EXIT_USER_ERROR
from ..openmm.console import quiet_standard_error
from ..openmm.engine.predictions import encode_masks
from ..utils.files import check_writable, written_atomically
from ..visualization.pictures import save_png
from .detector import DetInferencer, Result
from .inputs import Image, OnFault, Video

FRAME = re.compile(r', frame \d+')  # as `inputs.Image` calls one
MPEG4_CLOCK = 65535  # the most ticks a second


def detect_into(
    folder: Path,
    detector: DetInferencer,
    inputs: Sequence[Image | Video],
    on_fault: OnFault,
    pictures: bool = True,
    **options,
) -> Iterator[Result]:
    """Results of all inputs; what is drawn goes to ``folder/pictures`` and ``folder/videos``.

    ``inputs`` are as ``find_images`` gives them, ``options`` those of :meth:`DetInferencer.stream`.
    An image that cannot be used is left out, a video that cannot be written is not drawn:
    ``on_fault`` gets the error.
    """
    images = [item.path for item in inputs if isinstance(item, Image)]
    videos = [item for item in inputs if isinstance(item, Video)]
    for name, kind in (('pictures', images), ('videos', videos)):
        if kind and pictures:
            check_writable(folder / name, f'folder {folder}')
    options['on_fault'] = on_fault
    found = detector.stream(images, **options) if images else iter(())
    streams = [(video, detector.stream(video.path, **options)) for video in videos]
    paths = [item.path for item in inputs]
    if not pictures:
        return (result for part in (found, *(s for _, s in streams)) for _, result in part)
    return chain(
        _draw_images(found, detector, Names(folder / 'pictures', paths)),
        _draw_videos(streams, detector, Names(folder / 'videos', paths), on_fault),
    )


def _draw_images(
    found: Iterator[tuple[Image, Result]], detector: DetInferencer, names: Names
) -> Iterator[Result]:
    for image, result in found:
        save_png(detector.draw(image, result)[..., ::-1], names.take(image.path, '.png'))
        yield result


def _draw_videos(
    streams: Sequence[tuple[Video, Iterator[tuple[Image, Result]]]],
    detector: DetInferencer,
    names: Names,
    on_fault: OnFault,
) -> Iterator[Result]:
    for video, found in streams:
        first = next(found, None)
        if first is None:  # not a frame could be used: a video without one is none
            continue
        found = chain([first], found)
        try:
            with written_video(names.take(video.path, '.mp4'), video) as write:
                for image, result in found:
                    write(detector.draw(image, result))
                    yield result
        except DataError as error:
            on_fault(error)
            yield from (result for _, result in found)  # of those that were not asked for yet


class Faults:
    """Takes errors of images that are left out: names each on standard error, counts them.

    Of frames of a video with one fault the first is named.
    """

    def __init__(self) -> None:
        self.count = 0
        self._told: set[str] = set()

    def __call__(self, error: DataError) -> None:
        self.count += 1
        text = str(error)
        alike = FRAME.sub('', text)
        if alike == text or alike not in self._told:
            print(f'error: {text}', file=sys.stderr, flush=True)
        self._told.add(alike)

    def __str__(self) -> str:
        """What to say at the end: nothing where there were none."""
        return f'; {self.count} left out, named above' if self.count else ''

    @property
    def exit_code(self) -> int:
        return EXIT_USER_ERROR if self.count else 0


def to_json(result: Result) -> str:
    """A result as one line; masks are COCO's compressed run lengths."""
    plain = {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in result.items()
        if key != 'masks'
    }
    if 'masks' in result:
        plain['masks'] = encode_masks(result['masks'])
    return json.dumps(plain)


class Names:
    """Names for files in a folder: no two inputs get the same, and none is written over.

    ``a/1.jpg`` and ``b/1.jpg`` become ``1.png`` and ``1_2.png``.
    """

    def __init__(self, folder: Path, inputs: Iterable[Path]) -> None:
        self.folder, self._taken = folder, {path.resolve() for path in inputs}

    def take(self, source: Path, suffix: str) -> Path:
        """A name for what ``source`` becomes."""
        path, number = self.folder / f'{source.stem}{suffix}', 1
        while path.resolve() in self._taken:
            number += 1
            path = self.folder / f'{source.stem}_{number}{suffix}'
        self._taken.add(path.resolve())
        return path


@contextmanager
def written_video(path: Path, like: Video) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives what writes a frame, ``(H, W, 3)`` uint8 in BGR, into an MP4 file as fast and as large
    as another video; the file is there when the block ends well.

    Raises:
        DataError: OpenCV cannot write such a file.
    """
    size, rate = like.size[::-1], writable_rate(like.fps)
    with written_atomically(path) as temporary:
        # OpenCV takes the kind of file from the name.
        named = temporary.with_name(f'{temporary.name}.mp4')
        with quiet_standard_error():  # FFmpeg says on standard error what is an error of ours here
            writer = cv2.VideoWriter(str(named), cv2.VideoWriter_fourcc(*'mp4v'), rate, size)
        if not writer.isOpened():
            raise DataError(
                f'video {path}: OpenCV cannot write MP4 files of {size[0]}x{size[1]} at {rate} '
                'frames a second; its detections are written without it'
            )
        try:
            # A stream may change its size.
            yield lambda frame: writer.write(cv2.resize(frame, size))
            writer.release()
            named.replace(temporary)
        finally:
            writer.release()
            named.unlink(missing_ok=True)


def writable_rate(fps: float) -> float:
    """The nearest rate that MPEG-4 can hold, whose clock has two bytes: 66.667 becomes 66.67.

    OpenCV makes a fraction of the rate with a power of ten below it, and FFmpeg refuses one with a
    larger number above it.
    """
    digits = next((d for d in (3, 2, 1) if fps * 10**d <= MPEG4_CLOCK), 0)
    return min(round(fps, digits), MPEG4_CLOCK)
