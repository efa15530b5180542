"""Finding a person in videos: tracks of people in a gallery that knows where and when they were."""

from __future__ import annotations

import itertools
import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from ..reid.expansion import QueryExpansion
from ..reid.features import ReIDFeatures
from ..reid.galleries import AnyGallery, check_kind, create_gallery, finish, is_there, open_gallery
from ..reid.large_gallery import STATE
from ..reid.where import Where
from ..tracking.mot import FrameBoxes, write_mot
from ..tracking.tracklets import Tracklet
from ..utils.files import check_writable, write_text
from ..utils.text import shorten
from .footage import Footage, open_each, open_footage
from .inputs import Input
from .reid import ReIDExtractor
from .track_files import SETTINGS, name_videos, read_settings
from .tracking import VideoTracker

GALLERY, WORK, TRACKS = 'gallery', 'work', 'tracks'
UNFINISHED = 'unfinished.json'  # there while videos are followed
CLOCK = re.compile(r'(\d+):(\d\d)(?::(\d\d(?:\.\d+)?))?')


@dataclass(frozen=True)
class FoundTrack:
    """A passage of somebody who looks like the person asked for.

    Attributes:
        rank: From 1.
        distance: Of the features.
        video: The file.
        camera: Its number.
        track: The number in the video's tracks.
        first, last: Frames, from 0.
        begin, end: Seconds after midnight, or after the video's beginning where no clock was given.
        best: The frame of the picture.
        box: Where in it, left, top, right, bottom in pixels.
        picture: File of the best picture.
    """

    rank: int
    distance: float
    video: str
    camera: int
    track: int
    first: int
    last: int
    begin: float
    end: float
    best: int
    box: tuple[float, float, float, float]
    picture: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f'{self.rank:3d}  {self.distance:.4f}  camera {self.camera}  '
            f'{clock(self.begin)}-{clock(self.end)}  {self.video}  track {self.track}, frames '
            f'{self.first}-{self.last}'
        )


class PersonSearch:
    """A folder of tracks that :meth:`index` filled, to be searched by pictures of people.

    Args:
        folder: The folder.
        extractor: The model that made the features; needed to search by pictures.
        gallery: Where the gallery is: an address or file of a database; default: in the folder.
        kind: Of a new gallery: one of :data:`effvit_mm.reid.galleries.KINDS`.

    Attributes:
        gallery: The tracks; None where none were indexed yet.

    Raises:
        ConfigError: A package of such galleries is missing, or a database cannot be of the kind.
        DataError: The gallery cannot be read, or is one of images.

    Example::

        extractor = effvit_mm.ReIDExtractor('reid.py', 'epoch_14.pth')
        detector = effvit_mm.DetInferencer('detector.py', 'epoch_8.pth')
        people = effvit_mm.PersonSearch('found', extractor)
        people.index(
            ['hall.mp4', 'yard.mp4'], effvit_mm.VideoTracker(detector, extractor, pictures=True)
        )
        for track in people.search('somebody.jpg', camera=2)[0]:
            print(track)
    """

    def __init__(
        self,
        folder: str | Path,
        extractor: ReIDExtractor | None = None,
        *,
        gallery: str | Path | None = None,
        kind: str = 'exact',
    ) -> None:
        self.folder, self.extractor, self.kind = Path(folder), extractor, kind
        self.place = self.folder / GALLERY if gallery is None else gallery
        check_kind(self.place, kind)
        self.gallery = open_gallery(self.place) if is_there(self.place) else None
        if self.gallery is not None and 'track' not in self.gallery.columns:
            raise DataError(f'gallery {self.place} is one of images, not of tracks')

    # Indexing ----------------------------------------------------------------------------------

    def index(
        self,
        videos: Sequence[str | Path],
        tracker: VideoTracker,
        *,
        cameras: Sequence[int] | None = None,
        starts: Sequence[float] | None = None,
        boxes: Sequence[Mapping[int, FrameBoxes] | None] | None = None,
        progress: bool = False,
    ) -> None:
        """Follow the people of videos and keep their tracks; videos that were done are passed over.

        What is found is written as it comes: an interrupted call goes on where it was, and the
        gallery is the same as without the interruption.

        Args:
            videos: Video files, or folders with ``seqinfo.ini``.
            tracker: With an extractor, and ``pictures=True``.
            cameras: A number for each video; default: 1, 2, ..., those of the gallery left out.
            starts: Seconds after midnight at which each begins; default: 0.
            boxes: For each video, in the place of the tracker's detector.
            progress: Say how far it is: a bar on a terminal, else lines.

        Raises:
            ConfigError: The tracker has no extractor or keeps no pictures; not a camera or start
                for each video; a video is given twice; the folder cannot be written.
            DataError: A video cannot be read.
        """
        if tracker.extractor is None or not tracker.pictures:
            raise ConfigError('tracker: one with an extractor and pictures=True is needed')
        count = len(videos)
        footage = open_each(videos)
        names = name_videos(self.folder / WORK, videos, footage)
        cameras = self._cameras(names) if cameras is None else list(cameras)
        starts = [0.0] * count if starts is None else list(starts)
        known = [None] * count if boxes is None else list(boxes)
        check_each(count, cameras=cameras, starts=starts, boxes=known)
        check_writable(self.folder / TRACKS, f'folder {self.folder}')
        wanted = self.folder / UNFINISHED
        write_text(wanted, json.dumps([os.path.abspath(video) for video in videos], indent=1))
        for name, video, camera, start, found in zip(
            names, footage, cameras, starts, known, strict=True
        ):
            done = self.folder / TRACKS / f'{name}.txt'
            if done.is_file():
                continue
            work = self.folder / WORK / name
            tracks = tracker(video, work, boxes=found, resume=True, progress=progress)
            if tracks and not len(self._rows(name)):
                self._add(name, video, camera, start, tracks, tracker.extractor)
            write_mot(done, tracks)
        wanted.unlink()

    def _rows(self, name: str) -> Sequence[int]:
        """The numbers of a video's tracks in the gallery."""
        if self.gallery is None:
            return ()
        return self.gallery.find(Where(columns={'name': name}))

    def _cameras(self, names: Sequence[str]) -> list[int]:
        """A number for each video: its own where the gallery has it, else the next that is free."""
        gallery = self.gallery
        known = {
            name: int(gallery.take(rows[:1])[0].camids[0])
            for name in names
            if len(rows := self._rows(name))
        }
        free = (
            number
            for number in itertools.count(1)
            if gallery is None or not len(gallery.find(Where(number)))
        )
        return [known[name] if name in known else next(free) for name in names]

    def _add(
        self,
        name: str,
        footage: Footage,
        camera: int,
        start: float,
        tracks: Sequence[Tracklet],
        extractor: ReIDExtractor,
    ) -> None:
        """The tracks of a video as rows of the gallery, which is then written."""
        count = len(tracks)
        features = ReIDFeatures(
            np.stack([track.feature for track in tracks]),
            pids=np.full(count, -1),
            camids=np.full(count, camera),
            paths=[str(Path(WORK) / name / 'pictures' / track.picture) for track in tracks],
            model=extractor.identity,
            source=f'tracks of {footage.path}',
            preparation=extractor.preparation,
        )
        columns = {
            'name': [name] * count,
            'video': [str(footage.path.resolve())] * count,
            'camera': [camera] * count,
            'track': [track.number for track in tracks],
            'first': [track.first for track in tracks],
            'last': [track.last for track in tracks],
            'begin': [start + track.first / footage.fps for track in tracks],
            'end': [start + (track.last + 1) / footage.fps for track in tracks],
            'best': [track.best for track in tracks],
            'box': [track.best_box for track in tracks],
        }
        gallery = self.gallery
        if gallery is None:
            gallery = create_gallery(self.place, features.width, features.model, index=self.kind)
        gallery.add(features, columns)
        finish(gallery, self.place)
        self.gallery = gallery

    # Searching ---------------------------------------------------------------------------------

    def search(
        self,
        pictures: Input,
        top: int = 10,
        *,
        camera: int | Sequence[int] | None = None,
        not_camera: int | Sequence[int] | None = None,
        begin: float | None = None,
        end: float | None = None,
        expansion: QueryExpansion | None = None,
    ) -> list[list[FoundTrack]]:
        """Tracks of people who look like those of pictures, nearest first.

        Args:
            pictures: Files, a folder, arrays (BGR): each shows one person, cut out.
            top: How many are found.
            camera: Tracks of this one alone, or of these.
            not_camera: None of this one, or of these.
            begin, end: Tracks that were there between these seconds after midnight (after the
                video's beginning where no clock was given).
            expansion: Search by the mean of a picture's feature and of the nearest tracks', of all
                cameras and times. With ``QueryExpansion(k=1)`` that is mostly the track which the
                picture comes from.

        Returns:
            A list for each picture.

        Raises:
            ConfigError: There is no extractor, or ``top`` is below 1.
            DataError: The folder has no tracks, none of a camera that is named, or none of such
                cameras and times; a picture cannot be read; the extractor is another model's.
        """
        if self.extractor is None:
            raise ConfigError('extractor: it is needed to search by pictures')
        where = self.where(camera, not_camera, begin, end)
        return self.search_features(self.extractor(pictures), top, where, expansion)

    def where(
        self,
        camera: int | Sequence[int] | None = None,
        not_camera: int | Sequence[int] | None = None,
        begin: float | None = None,
        end: float | None = None,
    ) -> Where:
        """A choice of tracks by cameras and times; arguments are those of a search.

        Raises:
            DataError: No track is there, or none of a camera that is named.
        """
        gallery = self._tracks()
        where = Where(camera, () if not_camera is None else not_camera, begin, end)
        named = (*(where.cameras or ()), *where.not_cameras)
        if unknown := [number for number in named if not len(gallery.find(Where(number)))]:
            raise DataError(
                f'{self.folder}: no track of camera {unknown[0]}: {self._what_is_there()}'
            )
        if not len(gallery.find(where)):
            raise DataError(
                f'{self.folder}: no track of such a camera and time: {self._what_is_there()}'
            )
        return where

    def _what_is_there(self) -> str:
        """Cameras and times of all tracks, for an error."""
        gallery = self._tracks()
        tracks, columns = gallery.take(gallery.find())
        cameras = ', '.join(map(str, np.unique(tracks.camids)))
        times = f'{clock(min(columns["begin"]))}-{clock(max(columns["end"]))}'
        return f'there are cameras {cameras}, from {times}'

    def search_features(
        self,
        features: ReIDFeatures,
        top: int,
        where: Where | None = None,
        expansion: QueryExpansion | None = None,
    ) -> list[list[FoundTrack]]:
        """The same by features; ``where``: which tracks may be found."""
        gallery = self._tracks()
        if expansion is not None:
            features = expansion.in_gallery(features, gallery)
        rows, distances = gallery.search(features, top, where=where)
        return [
            self._found(*(values[numbers >= 0] for values in (numbers, row_distances)))
            for numbers, row_distances in zip(rows, distances, strict=True)
        ]

    def name_of(self, found: FoundTrack) -> str:
        """How the files of a track's video are called in the folder."""
        gallery = self._tracks()
        first = gallery.find(Where(columns={'video': found.video}))[:1]
        return gallery.take(first)[1]['name'][0]

    def _tracks(self) -> AnyGallery:
        if self.gallery is None:
            raise DataError(f'{self.folder}: no track was indexed there')
        return self.gallery

    def _found(self, numbers: np.ndarray, distances: np.ndarray) -> list[FoundTrack]:
        features, columns = self.gallery.take(numbers)
        found = []
        for place, (path, distance) in enumerate(
            zip(features.paths, distances.tolist(), strict=True)
        ):
            known = {name: values[place] for name, values in columns.items() if name != 'name'}
            known['box'] = tuple(known['box'])
            picture = str(self.folder / path)
            found.append(FoundTrack(place + 1, distance, **known, picture=picture))
        return found


def open_search(
    folder: str | Path, model: Sequence[str] | None = None, **options: Any
) -> PersonSearch:
    """A folder that ``tools/person_search.py index`` filled, with an extractor.

    Args:
        folder: The folder.
        model: Config and checkpoint; default: those that the folder was made with.
        **options: Of :class:`ReIDExtractor`.

    Raises:
        DataError: The folder was not made so, or cannot be read.
    """
    path = Path(folder) / SETTINGS
    if not path.is_file():
        is_gallery = Path(folder).is_file() or (Path(folder) / STATE).is_file()
        more = '; to search a gallery of images use reid_search.py search' if is_gallery else ''
        raise DataError(f'{path}: no such file: {folder} was not made by index{more}')
    settings = read_settings(path)
    model = model or settings.get('reid')
    if not model:
        raise DataError(f'{path} has no {"reid"!r}: {folder} was not made by index')
    if missing := _not_indexed(Path(folder)):
        warnings.warn(
            f'{folder}: index has not come to its end, and who is in {shorten(missing)} is not '
            'found; give its command once more with --resume',
            stacklevel=1,
        )
    extractor = ReIDExtractor(*model, **options)
    return PersonSearch(folder, extractor, gallery=settings.get('gallery'))


def _not_indexed(folder: Path) -> list[str]:
    """Videos that an interrupted :meth:`PersonSearch.index` has not followed to their end."""
    path = folder / UNFINISHED
    if not path.is_file():
        return []
    wanted = json.loads(path.read_text(encoding='utf-8'))
    try:
        names = name_videos(folder / WORK, wanted, [open_footage(video) for video in wanted])
    except DataError:  # one is elsewhere now
        return wanted
    done = [(folder / TRACKS / f'{name}.txt').is_file() for name in names]
    return [video for video, ended in zip(wanted, done, strict=True) if not ended]


def check_each(videos: int, **given: Sequence[Any] | None) -> None:
    """Raise a ConfigError where something that was given is not given for each video."""
    for name, values in given.items():
        if values is not None and len(values) != videos:
            raise ConfigError(f'{name}: {len(values)} for {videos} videos')


def clock(seconds: float) -> str:
    """Seconds as ``9:58:03``."""
    whole = int(seconds)
    return f'{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}'


def read_clock(text: str) -> float:
    """Seconds of ``9:58`` (hours and minutes), ``9:58:03`` or ``9:58:03.5``.

    Raises:
        ConfigError: The text is no such time.
    """
    found = CLOCK.fullmatch(text.strip())
    if found is None or int(found[2]) > 59 or float(found[3] or 0) >= 60:
        raise ConfigError(f'{text!r} is no time: 9:58 or 9:58:03 is needed')
    return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3] or 0)
