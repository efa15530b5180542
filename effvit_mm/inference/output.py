"""What an inferencer leaves on the disk: detections as JSON lines, pictures, videos."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from ..utils.files import check_writable, written_atomically
from ..visualization.pictures import encode_png
from .detector import DetInferencer, Result
from .inputs import Image, Video


def detect_into(
    folder: Path,
    detector: DetInferencer,
    inputs: Sequence[Image | Video],
    pictures: bool = True,
    **options,
) -> Iterator[Result]:
    """Results of all inputs; what is drawn goes to ``folder/pictures`` and ``folder/videos``.

    Args:
        folder: Made where it is missing.
        detector: Finds and draws.
        inputs: Files and videos, as ``find_images`` gives them.
        pictures: Draw.
        **options: Of :meth:`DetInferencer.stream`.
    """
    paths = [item.path for item in inputs]
    images = [item.path for item in inputs if isinstance(item, Image)]
    videos = [item for item in inputs if isinstance(item, Video)]
    for name, kind in (('pictures', images), ('videos', videos)):
        if kind and pictures:
            check_writable(folder / name, f'folder {folder}')
    names = Names(folder / 'pictures', paths)
    for image, result in detector.stream(images, **options) if images else ():
        if pictures:
            with written_atomically(names.take(image.path, '.png')) as temporary:
                temporary.write_bytes(encode_png(detector.draw(image, result)[..., ::-1]))
        yield result
    names = Names(folder / 'videos', paths)
    for video in videos:
        results = detector.stream(video.path, **options)
        if not pictures:
            yield from (result for _, result in results)
            continue
        with written_video(names.take(video.path, '.mp4'), video) as sink:
            for image, result in results:
                sink.write(detector.draw(image, result))
                yield result


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


def encode_masks(masks: np.ndarray) -> list[dict]:
    """``(N, H, W)`` bool as ``{'size': [H, W], 'counts': text}``."""
    from mmdet.structures.mask import encode_mask_results

    return [{**m, 'counts': m['counts'].decode('ascii')} for m in encode_mask_results(masks)]


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


class VideoSink:
    """Writes frames of one size into an MP4 file that does not exist yet."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self.size = size
        code = cv2.VideoWriter_fourcc(*'mp4v')
        self._writer = cv2.VideoWriter(str(path), code, fps, size[::-1])
        if not self._writer.isOpened():
            raise DataError(f'video {path}: OpenCV cannot write MP4 files of {size[1]}x{size[0]}')

    def write(self, frame: np.ndarray) -> None:
        """One frame: ``(H, W, 3)`` uint8, BGR."""
        if frame.shape[:2] != self.size:  # a stream may change its size
            frame = cv2.resize(frame, self.size[::-1])
        self._writer.write(frame)

    def close(self) -> None:
        """Write what is left."""
        self._writer.release()


@contextmanager
def written_video(path: Path, like: Video) -> Iterator[VideoSink]:
    """An MP4 file as fast and as large as another video; it is there when the block ends well."""
    with written_atomically(path) as temporary:
        # OpenCV takes the kind of file from the name.
        named = temporary.with_name(f'{temporary.name}.mp4')
        sink = VideoSink(named, like.fps, like.size)
        try:
            yield sink
            sink.close()
            named.replace(temporary)
        finally:
            sink.close()
            named.unlink(missing_ok=True)
