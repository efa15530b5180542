"""Passages cut out of videos, with the person framed; sheets of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ..tracking.mot import read_mot
from ..visualization.pictures import draw_objects
from ..visualization.rank_lists import Shown, is_legible
from .footage import open_footage
from .output import written_video
from .person_search import TRACKS, FoundTrack, PersonSearch, clock

MARGIN = 1.0  # seconds before and after
HEADING = ('rank', 'distance', 'camera', 'time', 'video', 'track', 'frames')


def cut_passages(search: PersonSearch, found: Sequence[FoundTrack], folder: Path) -> list[Path]:
    """Write the passage of each track, and a second before and after, as ``01_hall_track7.mp4``.

    Raises:
        DataError: A video is gone, or OpenCV cannot write such a file.
    """
    return [_cut(search, track, folder) for track in found]


def _cut(search: PersonSearch, found: FoundTrack, folder: Path) -> Path:
    name = Path(found.video).stem
    [track] = [
        track
        for track in read_mot(search.folder / TRACKS / f'{search.name_of(found)}.txt')
        if track.number == found.track
    ]
    boxes = dict(zip(track.frames, track.boxes, strict=True))
    path = folder / f'{found.rank:02d}_{name}_track{found.track}.mp4'
    footage = open_footage(found.video)
    margin = round(MARGIN * footage.fps)
    with written_video(path, footage) as write:
        for image in islice(footage, max(found.first - margin, 0), found.last + margin + 1):
            picture = image.array
            if image.frame in boxes:
                rgb = np.ascontiguousarray(picture[..., ::-1])
                box = np.array([boxes[image.frame]])
                drawn = draw_objects(rgb, box, [0], names=[f'track {found.track}'], min_side=1)
                picture = np.ascontiguousarray(drawn[..., ::-1])
            write(picture)
    return path


def as_table(found: Sequence[FoundTrack]) -> list[str]:
    """Lines of a table of what was found, below its heading."""
    rows = [
        HEADING,
        *(
            (
                str(track.rank),
                f'{track.distance:.4f}',
                str(track.camera),
                f'{clock(track.begin)}-{clock(track.end)}',
                track.video,
                str(track.track),
                f'{track.first}-{track.last}',
            )
            for track in found
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = HEADING.index('time'), HEADING.index('video')
    return [
        '  '.join(
            cell.ljust(width) if column in texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def as_shown(found: FoundTrack, right: bool | None = None, video: bool = True) -> Shown:
    """A track as an image of a rank list.

    Args:
        found: The track.
        right: Whether it is the person's.
        video: Name the file beside the camera, if it fits there.
    """
    camera = f'camera {found.camera}'
    named = f'{camera} {Path(found.video).name}'
    lines = [
        named if video and is_legible(named) else camera,
        f'{clock(found.begin)}-{clock(found.end)}',
        f'{found.distance:.3f}',
    ]
    return Shown(found.picture, lines, right)
