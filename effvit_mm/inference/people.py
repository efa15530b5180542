"""The people who are being followed: their boxes, their best picture, their feature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from ..tracking.mot import FrameBoxes
from ..tracking.quality import crop_qualities
from ..tracking.tracker import NO_TRACK
from ..tracking.tracklets import Tracklet
from ..utils.files import written_atomically
from ..utils.images import cut_out

CROPS_AT_ONCE = 16
JPEG_QUALITY = 95

Extract = Callable[[list[np.ndarray]], np.ndarray]  # crops, BGR, to features (N, D)


@dataclass(eq=False)
class _Person:
    """A tracklet that goes on."""

    tracklet: Tracklet
    period: int = -1
    crop: np.ndarray | None = None  # the best of this period
    quality: float = 0.0
    best: np.ndarray | None = None  # the best of all
    crops: list[np.ndarray] = field(default_factory=list)  # whose features are not known yet
    qualities: list[float] = field(default_factory=list)  # of these
    total: np.ndarray | float = 0.0  # weighted sum of normalised features


class People:
    """Takes frames with numbered boxes, gives tracklets as they end; memory is that of those who
    are there.

    Of each period the best picture is kept, by :func:`effvit_mm.tracking.quality.crop_qualities`,
    and a tracklet's feature is the mean of theirs (each normalised), weighted by these qualities.
    Pictures are described in batches of one person's: a feature does not depend on who else is
    there, to the last bit.

    Args:
        extract: Gives features; None: tracklets have none.
        period: Frames.
        patience: Of the tracker: frames after which a tracklet that was not seen has ended.
        picture: Gives the file for a tracklet's best picture; None: none are written.
    """

    def __init__(
        self,
        extract: Extract | None,
        period: int,
        patience: int,
        picture: Callable[[int], Path] | None,
    ) -> None:
        self.extract, self.period, self.patience = extract, period, patience
        self.picture = picture
        self._there: dict[int, _Person] = {}

    def add(self, frame: int, image: np.ndarray, found: FrameBoxes, numbers: Sequence[int]) -> None:
        """A frame: its boxes, and which track each belongs to, -1 for none."""
        looked_at = self.extract is not None or self.picture is not None
        crops = [cut_out(image, box) for box in found.boxes] if looked_at else []
        qualities = crop_qualities(image, crops, found.boxes, found.scores)
        for place, number in enumerate(numbers):
            if number == NO_TRACK:
                continue
            person = self._there.setdefault(number, _Person(Tracklet(number)))
            tracklet, box = person.tracklet, found.boxes[place].tolist()
            tracklet.frames.append(frame)
            tracklet.boxes.append(box)
            tracklet.scores.append(float(found.scores[place]))
            if looked_at:
                self._look(person, frame, box, crops[place], float(qualities[place]))

    def _look(
        self, person: _Person, frame: int, box: list[float], crop: np.ndarray, quality: float
    ) -> None:
        if frame // self.period != person.period:
            self._close_period(person)
            person.period = frame // self.period
        if quality > person.quality:
            person.crop, person.quality = crop, quality
        tracklet = person.tracklet
        if quality > tracklet.quality:
            tracklet.best, tracklet.best_box, tracklet.quality = frame, box, quality
            person.best = crop

    def _close_period(self, person: _Person) -> None:
        if person.crop is not None and self.extract is not None:
            person.crops.append(person.crop)
            person.qualities.append(person.quality)
            if len(person.crops) == CROPS_AT_ONCE:
                self._describe(person, self.extract)
        person.crop, person.quality = None, 0.0

    def _describe(self, person: _Person, extract: Extract) -> None:
        features = extract(person.crops).astype(np.float64)
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        for quality, feature in zip(person.qualities, features, strict=True):
            person.total = person.total + quality * feature
            person.tracklet.weight += quality
        person.crops, person.qualities = [], []

    def ended(self, frame: int | None = None) -> Iterator[Tracklet]:
        """Tracklets that no later frame can continue; all that are left with None."""
        gone = [
            number
            for number, person in self._there.items()
            if frame is None or frame - person.tracklet.last > self.patience + 1
        ]
        for number in gone:
            person = self._there.pop(number)
            self._close_period(person)
            if person.crops and self.extract is not None:
                self._describe(person, self.extract)
            tracklet = person.tracklet
            if tracklet.weight > 0:
                tracklet.feature = np.asarray(person.total / tracklet.weight, np.float32)
            if self.picture is not None:
                path = self.picture(number)
                write_jpeg(path, person.best)
                tracklet.picture = path.name
            yield tracklet


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an image, (H, W, 3) uint8 in BGR, as JPEG, atomically.

    Raises:
        DataError: OpenCV cannot encode it.
    """
    encoded, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded:
        raise DataError(f'{path}: an image of {image.shape} cannot be encoded')
    with written_atomically(path) as temporary:
        temporary.write_bytes(data.tobytes())
