"""What a detector leaves on the disk beside its results: pictures and videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import DataError
from ..openmm.console import quiet_standard_error
from ..utils.files import check_writable, written_atomically
from ..visualization.pictures import save_png
from .batches import Done
from .detector import Detector
from .inputs import Found, OnFault
from .results import Detection
from .videos import Image, Video

MPEG4_CLOCK = 65535  # the most ticks a second


def detect_into(
    folder: Path,
    detector: Detector,
    found: Sequence[Found],
    on_fault: OnFault | None,
    done: Done,
    **options: Any,
) -> Iterator[Detection]:
    """Results of all inputs; what is drawn goes to ``folder/pictures`` and ``folder/videos``.

    Images come first, then videos. An image that cannot be used is left out, a video that cannot
    be written is not drawn.

    Args:
        folder: Where to draw.
        detector: What looks for objects.
        found: Images and videos, as ``find_images`` gives them.
        on_fault: Gets errors; None: they end all.
        done: Whether an image has its result and picture already. A video that is not there whole
            is drawn from its beginning.
        **options: Of :meth:`Detector.run`.
    """
    images = [one for one in found if isinstance(one, Image)]
    videos = [one for one in found if isinstance(one, Video)]
    for name, kind in (('pictures', images), ('videos', videos)):
        if kind:
            check_writable(folder / name, f'folder {folder}')
    options['on_fault'] = on_fault
    paths = [one.path for one in (*images, *videos)]
    if images:
        yield from _draw_images(detector, images, Names(folder / 'pictures', paths), done, options)
    names = Names(folder / 'videos', paths)
    for video in videos:
        yield from _draw_video(detector, video, names.take(video.path, '.mp4'), done, options)


def _draw_images(
    detector: Detector,
    images: Sequence[Image],
    names: Names,
    done: Done,
    options: dict[str, Any],
) -> Iterator[Detection]:
    def drawn(image: Image) -> bool:
        """Whether it is; its picture has its name then."""
        there = done(image)
        if there:
            names.take(image.path, '.png')
        return there

    for image, result in detector.run(images, done=drawn, **options):
        save_png(detector.draw(image, result)[..., ::-1], names.take(image.path, '.png'))
        yield result


def _draw_video(
    detector: Detector, video: Video, path: Path, done: Done, options: dict[str, Any]
) -> Iterator[Detection]:
    """Results of the frames that have none yet.

    A video appears when it is complete: one that is not there is drawn from its first frame on.
    """
    began = done(Image(video.path, 0))

    def known(image: Image) -> bool:
        return began if image.frame == 0 else done(image)

    if began and path.is_file():
        yield from (result for _, result in detector.run([video], done=known, **options))
        return
    path.unlink(missing_ok=True)  # of an older run: it would pass for this one's
    found = ((image, result, known(image)) for image, result in detector.run([video], **options))
    first = next(found, None)
    if first is None:  # not a frame could be used: a video without one is none
        return
    found = chain([first], found)
    try:
        with written_video(path, video) as write:
            for image, result, there in found:
                write(detector.draw(image, result))
                if not there:
                    yield result
    except DataError as error:
        if options['on_fault'] is None:
            raise
        options['on_fault'](error)
        # Of those that were not asked for yet.
        yield from (result for _, result, there in found if not there)


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
