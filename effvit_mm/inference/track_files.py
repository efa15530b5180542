"""What tracking a video writes as it goes, and where an interrupted run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from ..tracking.mot import FrameBoxes
from ..tracking.tracklets import Tracklet
from ..utils.files import LineFile, check_writable, write_text
from .footage import Footage, footage_names

SETTINGS, DETECTIONS, TRACKLETS, PICTURES = (
    'settings.json', 'detections.jsonl', 'tracklets.jsonl', 'pictures',
)  # fmt: skip


def has_results(paths: Iterable[Path]) -> bool:
    """Whether files, or files of folders and all below, say more than with which settings."""
    for path in paths:
        for file in path.rglob('*') if path.is_dir() else [path]:
            if file.is_file() and file.name != SETTINGS and file.stat().st_size:
                return True
    return False


def read_settings(path: Path) -> dict[str, Any]:
    """What :func:`settle` wrote.

    Raises:
        DataError: The file is broken, or another.
    """
    try:
        settings = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise DataError(f'{path} cannot be read: {error}') from error
    if not isinstance(settings, dict):
        raise DataError(f'{path} cannot be read: it holds no settings')
    return settings


def name_videos(work: Path, videos: Sequence[str | Path], footage: Sequence[Footage]) -> list[str]:
    """How the files of each video are called in a folder: as they are there, or by a new name.

    Args:
        work: Where each video that was begun has a folder of :class:`TrackFiles`.
        videos: Files or folders, as they were given; new names come from them: ``clip``,
            ``clip_2``.
        footage: The same, opened.
    """
    there: dict[str, list[str]] = {}  # one video may be given twice
    for path in sorted(work.glob(f'*/{SETTINGS}')):
        there.setdefault(read_settings(path).get('video', ''), []).append(path.parent.name)
    taken = [name for names in there.values() for name in names]
    named = [(there.get(_identity(video)) or [None]).pop(0) for video in footage]
    unnamed = [path for path, name in zip(videos, named, strict=True) if name is None]
    new = iter(footage_names(unnamed, taken))
    return [next(new) if name is None else name for name in named]


def _identity(footage: Footage) -> str:
    """By which a video is known again."""
    return str(footage.path.resolve())


def settle(
    folder: Path,
    settings: Mapping[str, Any],
    resume: bool,
    flag: str,
    stale: Iterable[Path] = (),
) -> None:
    """Have a folder hold the results of these settings alone.

    Args:
        folder: Made where it is missing.
        settings: What results depend on, as plain values.
        resume: Results that are there stay; they must be of the same settings.
        flag: How messages call the folder.
        stale: Results of an earlier run, which go without ``resume``.

    Raises:
        ConfigError: It cannot be written, or holds results of other settings.
    """
    check_writable(folder, flag)
    path = folder / SETTINGS
    if resume and path.is_file():
        old = read_settings(path)
        for key in dict.fromkeys([*settings, *old]):
            if old.get(key) != settings.get(key):
                raise ConfigError(
                    f'{flag}: {folder} was made with {key}={old.get(key)!r}, not '
                    f'{settings.get(key)!r}, and a folder holds what one setting makes; name '
                    'another, or begin it anew with --overwrite'
                )
    if not resume:
        for result in stale:
            if result.is_dir():
                shutil.rmtree(result)
            else:
                result.unlink(missing_ok=True)
    write_text(path, json.dumps(dict(settings), indent=1))


class TrackFiles:
    """The files of one video: boxes of each frame, and tracklets that have ended.

    Args:
        folder: Where they are.
        footage: The video, which must be the same when it is gone on with.
        resume: Go on with what is there.
        together: Frames whose boxes are found together: of those that are there, whole batches
            count, so that further ones are those of a run that nothing interrupted, to the last
            bit.

    Attributes:
        known: Boxes of the first frames.
        ended: Tracklets, by their numbers.

    Raises:
        ConfigError: The folder has the results of another video.
    """

    def __init__(self, folder: Path, footage: Footage, resume: bool, together: int = 1) -> None:
        self.pictures = folder / PICTURES
        video = {
            'video': _identity(footage),
            'fps': footage.fps,
            'frames': footage.frames,
            'size': list(footage.size),
        }
        stale = [folder / DETECTIONS, folder / TRACKLETS, self.pictures]
        settle(folder, video, resume, f'folder {folder}', stale)
        check_writable(self.pictures, f'folder {folder}')
        rows, kept = whole_lines(folder / DETECTIONS, together)
        self.known = [_boxes(row) for row in rows]
        self._detections = LineFile(folder / DETECTIONS, kept)
        rows, kept = whole_lines(folder / TRACKLETS)
        self.ended = {row['number']: Tracklet.from_dict(row) for row in rows}
        self._tracklets = LineFile(folder / TRACKLETS, kept)

    def add_boxes(self, found: FrameBoxes) -> None:
        """Those of the next frame."""
        row = {'boxes': found.boxes.tolist(), 'scores': found.scores.tolist()}
        self._detections.write(json.dumps(row))

    def add_tracklet(self, tracklet: Tracklet) -> None:
        """One that has ended."""
        self.ended[tracklet.number] = tracklet
        self._tracklets.write(json.dumps(tracklet.to_dict()))

    def picture(self, number: int) -> Path:
        """The file of a tracklet's best picture."""
        return self.pictures / f'{number:06d}.jpg'

    def __enter__(self) -> TrackFiles:
        self._detections.__enter__()
        self._tracklets.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._detections.__exit__(*reason)
        self._tracklets.__exit__(*reason)


def whole_lines(path: Path, together: int = 1) -> tuple[list[dict[str, Any]], int]:
    """JSON of a file's lines up to one that was cut short, and how many bytes they take.

    Args:
        path: The file; it need not be there.
        together: Their number is a multiple of this: the last ones are left out.
    """
    if not path.is_file():
        return [], 0
    rows, ends = [], [0]
    with path.open('rb') as file:
        for line in file:
            try:
                if not line.endswith(b'\n'):
                    break
                rows.append(json.loads(line))
            except ValueError:
                break
            ends.append(ends[-1] + len(line))
    count = len(rows) - len(rows) % together
    return rows[:count], ends[count]


def _boxes(row: Mapping[str, Sequence]) -> FrameBoxes:
    boxes = np.array(row['boxes'], np.float32).reshape(-1, 4)
    return FrameBoxes(boxes, np.array(row['scores'], np.float32))
