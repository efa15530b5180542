"""Files of the MOT Challenge: boxes and tracks as text, and what a sequence's folder says of it.

A line is ``frame, id, left, top, width, height, score, ...``, frames counted from 1; of what was
detected the id is -1.
"""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..utils.files import write_text
from .tracklets import Tracklet

SEQUENCE_FILE = 'seqinfo.ini'
LAST_NUMBER = re.compile(r'(\d+)\D*$')


class FrameBoxes(NamedTuple):
    """Boxes of a frame.

    Attributes:
        boxes: (N, 4) float32: left, top, right, bottom in pixels.
        scores: (N,) float32.
    """

    boxes: np.ndarray
    scores: np.ndarray


NO_BOXES = FrameBoxes(np.empty((0, 4), np.float32), np.empty(0, np.float32))


def write_mot(path: str | Path, tracks: Iterable[Tracklet]) -> None:
    """Write tracks as MOT Challenge text, by frames, atomically."""
    rows = sorted(
        (frame + 1, track.number, box, score)
        for track in tracks
        for frame, box, score in zip(track.frames, track.boxes, track.scores, strict=True)
    )
    lines = [
        f'{frame},{number},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},'
        f'{score:.4f},-1,-1,-1\n'
        for frame, number, (left, top, right, bottom), score in rows
    ]
    write_text(path, ''.join(lines))


def read_mot(path: str | Path) -> list[Tracklet]:
    """Tracks of MOT Challenge text, by their numbers.

    Raises:
        DataError: No such file, or a line that is none of this kind; names file and line.
    """
    tracks: dict[int, Tracklet] = {}
    for frame, number, box, score in _rows(Path(path)):
        track = tracks.setdefault(number, Tracklet(number))
        track.frames.append(frame)
        track.boxes.append(box)
        track.scores.append(score)
    for track in tracks.values():
        order = np.argsort(track.frames, kind='stable').tolist()
        for name in ('frames', 'boxes', 'scores'):
            values = getattr(track, name)
            setattr(track, name, [values[place] for place in order])
    return [tracks[number] for number in sorted(tracks)]


def read_boxes(path: str | Path) -> dict[int, FrameBoxes]:
    """Boxes by frames, counted from 0, of a file in MOT Challenge's or COCO's format.

    MOT Challenge: ``.txt`` or ``.csv``, ids passed over; of ground truth the rows that count.
    COCO: ``.json``, results (a list whose ``image_id`` is the frame from 1), or annotations, whose
    images are frames by ``frame_id`` (from 0) or else by the last number in ``file_name`` (from 1).

    Raises:
        DataError: No such file, or not of these formats; names the place.
    """
    path = Path(path)
    rows: dict[int, list[tuple[list[float], float]]] = {}
    source = _coco_rows(path) if path.suffix == '.json' else _rows(path)
    for frame, _, box, score in source:
        rows.setdefault(frame, []).append((box, score))
    return {
        frame: FrameBoxes(
            np.array([box for box, _ in found], np.float32),
            np.array([score for _, score in found], np.float32),
        )
        for frame, found in rows.items()
    }


def _rows(path: Path) -> Iterable[tuple[int, int, list[float], float]]:
    """Frame, id, box, score of each line."""
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is no text'
        raise DataError(f'{path} cannot be read: {reason}') from error
    truth = path.parent.name == 'gt'
    for place, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            cells = [float(cell) for cell in line.split(',')]
            frame, number, left, top, width, height = cells[:6]
        except ValueError as error:
            raise DataError(
                f'{path}, line {place}: {line.strip()[:60]!r}: frame, id, left, top, width, height '
                'and further numbers with commas between them are needed'
            ) from error
        score = cells[6] if len(cells) > 6 and not truth else 1.0
        if frame < 1 or frame != int(frame) or not np.isfinite(cells[:6]).all():
            raise DataError(f'{path}, line {place}: frame {cells[0]}: whole numbers from 1 on')
        if truth and len(cells) > 6 and cells[6] == 0:
            continue
        yield int(frame) - 1, int(number), [left, top, left + width, top + height], score


def _coco_rows(path: Path) -> Iterable[tuple[int, int, list[float], float]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f'{path} cannot be read as JSON: {error}') from error
    try:
        if isinstance(content, Mapping):
            frames = {image['id']: _frame_of(image) for image in content['images']}
            objects = [row for row in content['annotations'] if not row.get('iscrowd')]
        else:
            objects = list(content)
            frames = {row['image_id']: int(row['image_id']) - 1 for row in objects}
        for row in objects:
            left, top, width, height = map(float, row['bbox'])
            box = [left, top, left + width, top + height]
            yield frames[row['image_id']], -1, box, float(row.get('score', 1.0))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f'{path}: {type(error).__name__} {error}: COCO annotations with images, or a list of '
            'results with image_id (the frame, from 1), bbox and score are needed'
        ) from error


def _frame_of(image: Mapping) -> int:
    if 'frame_id' in image:
        return int(image['frame_id'])
    number = LAST_NUMBER.search(Path(image['file_name']).stem)
    if number is None:
        raise ValueError(f'no frame in the name {image["file_name"]!r}')
    return int(number[1]) - 1


class SequenceInfo(NamedTuple):
    """What ``seqinfo.ini`` says.

    Attributes:
        name: Of the sequence.
        folder: Where it is.
        fps: Frames a second.
        frames: How many there are.
        images: Its folder of images; they are named by frames from 1 on.
        suffix: Of the images.
        video: A video in their place; None where there is none.
    """

    name: str
    folder: Path
    fps: float
    frames: int
    images: Path
    suffix: str
    video: Path | None

    def image(self, frame: int) -> Path:
        """The file of a frame, from 0."""
        return self.images / f'{frame + 1:06d}{self.suffix}'


def read_sequence(folder: str | Path) -> SequenceInfo:
    """What a sequence's folder says, as in MOT17; ``video`` is a key of ours.

    Raises:
        DataError: No such file, or a key is missing or no number.
    """
    folder = Path(folder)
    path = folder / SEQUENCE_FILE
    parser = configparser.ConfigParser()
    try:
        if not parser.read(path, encoding='utf-8'):
            raise DataError(f'{path}: no such file')
        info = parser['Sequence']
        video = info.get('video')
        return SequenceInfo(
            info.get('name', folder.name),
            folder,
            info.getfloat('frameRate', 25.0),
            int(info['seqLength']),
            folder / info.get('imDir', 'img1'),
            info.get('imExt', '.jpg'),
            None if video is None else folder / video,
        )
    except (configparser.Error, KeyError, ValueError) as error:
        raise DataError(f'{path}: {" ".join(str(error).split())}: not as in MOT17') from error
