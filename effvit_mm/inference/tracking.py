"""People followed through videos: detected, tracked, described by features, joined."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..tracking.joining import join_tracklets
from ..tracking.mot import NO_BOXES, FrameBoxes
from ..tracking.options import TrackOptions
from ..tracking.tracker import NO_TRACK, Tracker
from ..tracking.tracklets import Tracklet, filled
from .detector import DetInferencer
from .footage import Footage
from .people import People
from .progress import with_progress
from .reid import ReIDExtractor
from .track_files import TrackFiles
from .videos import Image

PERSON_NAMES = ('person', 'pedestrian', 'people', 'human')


class VideoTracker:
    """Follows people through videos of any length; memory is that of the tracks.

    Args:
        detector: Finds people; None where boxes come from files.
        extractor: Describes them: tracklets that look alike are joined. None: none are.
        options: See :class:`~effvit_mm.tracking.options.TrackOptions`.
        classes: Names of the detector's classes that are followed; default: those that mean
            people, or all where there is none.
        pictures: Keep the best picture of each tracklet.
        batch_size: Frames that go through the detector together.

    Attributes:
        seconds: Time spent by kind of work: reading (and decoding), detecting, tracking, choosing
            and writing pictures and tracklets, describing people by features, joining tracklets.
        frames: How many went by.

    Raises:
        ConfigError: A class that the detector does not have.
    """

    def __init__(
        self,
        detector: DetInferencer | None = None,
        extractor: ReIDExtractor | None = None,
        options: TrackOptions | None = None,
        *,
        classes: Sequence[str] | None = None,
        pictures: bool = False,
        batch_size: int = 4,
    ) -> None:
        self.detector, self.extractor = detector, extractor
        self.options = options or TrackOptions()
        self.labels = None if detector is None else chosen_labels(detector.classes, classes)
        self.pictures, self.batch_size = pictures, batch_size
        self.seconds: Counter[str] = Counter()
        self.frames = 0
        self._clocks: list[float] = []  # seconds within each clock that goes, of clocks in it

    def __call__(
        self,
        footage: Footage,
        folder: str | Path,
        *,
        boxes: Mapping[int, FrameBoxes] | None = None,
        resume: bool = False,
        progress: bool = False,
    ) -> list[Tracklet]:
        """Follow the people of a video.

        Args:
            footage: The video.
            folder: Where boxes, tracklets and pictures are written as they come.
            boxes: In the place of the detector's, by frames from 0.
            resume: Go on with what an interrupted call left in ``folder``; results are the same.
            progress: Say how far it is: a bar on a terminal, else lines.

        Returns:
            Tracks, numbered from 1 by their first frames.

        Raises:
            ConfigError: ``folder`` has the results of another video.
            DataError: An image cannot be read.
        """
        options = self.options
        tracker = options.tracker(footage.fps)
        together = 1 if boxes is not None else self.batch_size
        with TrackFiles(Path(folder), footage, resume, together) as files:
            people = People(
                None if self.extractor is None else self._describe,
                max(1, round(options.period * footage.fps)),
                (tracker.patience + 1) * options.every - 1,
                files.picture if self.pictures else None,
            )
            self._follow(footage, tracker, people, files, boxes, progress)
            tracklets = [t for t in files.ended.values() if len(t) >= options.min_frames]
        if self.extractor is None:
            tracklets.sort(key=lambda tracklet: (tracklet.first, tracklet.number))
            tracks = [replace(t, number=number) for number, t in enumerate(tracklets, start=1)]
        else:
            with self._clock('joining'):
                tracks = join_tracklets(
                    tracklets,
                    footage.fps,
                    max_gap=options.max_gap,
                    max_distance=options.max_distance,
                )
        return [filled(track, options.every) for track in tracks]

    def _follow(
        self,
        footage: Footage,
        tracker: Tracker,
        people: People,
        files: TrackFiles,
        boxes: Mapping[int, FrameBoxes] | None,
        progress: bool,
    ) -> None:
        """Bring all tracklets into ``files``."""
        every = self.options.every
        with self._clock('tracking'):
            known = {
                every * place: (found, tracker.update(*found))
                for place, found in enumerate(files.known)
            }
        begins: dict[int, int] = {}
        for frame, (_, numbers) in known.items():
            for number in numbers[numbers != NO_TRACK].tolist():
                begins.setdefault(number, frame)
        unfinished = [frame for number, frame in begins.items() if number not in files.ended]
        needed = min(unfinished, default=every * len(known))
        images = self._timed('reading', footage.read(needed, every))
        if progress:
            total = max(footage.frames - needed, 0) // every or None
            images = with_progress(images, f'tracking {footage.path.name}', total)
        for image, found in self._found(images, every * len(known), boxes):
            frame = image.frame
            if found is None:
                found, numbers = known[frame]
            else:
                files.add_boxes(found)
                with self._clock('tracking'):
                    numbers = tracker.update(*found)
            with self._clock('choosing'):
                going = [NO_TRACK if n in files.ended else n for n in numbers.tolist()]
                people.add(frame, image.array, found, going)
                for tracklet in people.ended(frame):
                    files.add_tracklet(tracklet)
        with self._clock('choosing'):
            for tracklet in people.ended():
                files.add_tracklet(tracklet)

    def _found(
        self, images: Iterable[Image], known: int, boxes: Mapping[int, FrameBoxes] | None
    ) -> Iterator[tuple[Image, FrameBoxes | None]]:
        """Images with their boxes; None for the first, whose boxes are known."""
        batch: list[Image] = []
        for image in images:
            self.frames += self.options.every
            if image.frame < known:
                yield image, None
            elif boxes is not None:
                yield image, self._certain_enough(boxes.get(image.frame, NO_BOXES))
            else:
                batch.append(image)
                if len(batch) == self.batch_size:
                    yield from zip(batch, self._detect(batch), strict=True)
                    batch = []
        if batch:
            yield from zip(batch, self._detect(batch), strict=True)

    def _certain_enough(self, found: FrameBoxes) -> FrameBoxes:
        kept = found.scores >= self.options.score_thr
        return FrameBoxes(found.boxes[kept], found.scores[kept])

    def _detect(self, batch: Sequence[Image]) -> list[FrameBoxes]:
        if self.detector is None:
            raise ConfigError('a detector is needed, or boxes of a file')
        with self._clock('detecting'):
            results = self.detector(
                [image.array for image in batch], len(batch), self.options.score_thr
            )
        found = []
        for result in results:
            kept = np.isin(result['labels'], self.labels)
            found.append(FrameBoxes(result['boxes'][kept], result['scores'][kept]))
        return found

    def _describe(self, crops: list[np.ndarray]) -> np.ndarray:
        with self._clock('describing'):
            return self.extractor(crops, len(crops)).features

    @contextmanager
    def _clock(self, kind: str) -> Iterator[None]:
        """Counts the time within, less that of clocks within it."""
        start = time.perf_counter()
        self._clocks.append(0.0)
        try:
            yield
        finally:
            took = time.perf_counter() - start
            self.seconds[kind] += took - self._clocks.pop()
            if self._clocks:
                self._clocks[-1] += took

    def _timed(self, kind: str, items: Iterable[Image]) -> Iterator[Image]:
        """The items; the time that they take to come is counted."""
        iterator = iter(items)
        while True:
            with self._clock(kind):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def report(self) -> str:
        """Frames a second, and where the time went: the most of it first."""
        if not self.frames:
            return 'nothing was left to do'
        total = sum(self.seconds.values())
        kinds = self.seconds.most_common()
        shares = ', '.join(f'{kind} {100 * seconds / total:.0f} %' for kind, seconds in kinds)
        return f'{self.frames} frames, {self.frames / total:.1f} a second: {shares}'


def chosen_labels(known: Sequence[str], wanted: Sequence[str] | None) -> list[int]:
    """Numbers of the classes that are followed.

    Raises:
        ConfigError: A class that there is not.
    """
    if wanted is None:
        people = [label for label, name in enumerate(known) if name.lower() in PERSON_NAMES]
        return people or list(range(len(known)))
    for name in wanted:
        if name not in known:
            raise ConfigError(f'classes: {name!r}: the detector has {", ".join(known)}')
    return [known.index(name) for name in wanted]
