"""Videos with the tracks drawn into them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..tracking.tracklets import Tracklet
from ..visualization.pictures import draw_objects, label_color
from .footage import Footage
from .output import written_video


def draw_tracks_into(path: Path, footage: Footage, tracks: Sequence[Tracklet]) -> None:
    """Write an MP4 file with each track's boxes and number, in a colour of its own.

    Raises:
        DataError: OpenCV cannot write such a file.
    """
    frames: dict[int, list[tuple[list[float], int]]] = defaultdict(list)
    for track in tracks:
        for frame, box in zip(track.frames, track.boxes, strict=True):
            frames[frame].append((box, track.number))
    names = [str(number) for number in range(max((t.number for t in tracks), default=0) + 1)]
    palette = [label_color(number) for number in range(len(names))]
    with written_video(path, footage) as write:
        for image in footage:
            boxes = [box for box, _ in frames[image.frame]]
            numbers = [number for _, number in frames[image.frame]]
            rgb = np.ascontiguousarray(image.array[..., ::-1])
            drawn = draw_objects(
                rgb, np.array(boxes), numbers, names=names, palette=palette, min_side=1
            )
            write(np.ascontiguousarray(drawn[..., ::-1]))
