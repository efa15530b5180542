"""What a web page shows of trained models: an answer to each image, in words if it cannot be used.

The page's layout is in ``tools/app.py``; nothing here knows of it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from mmengine.registry import DATASETS, DefaultScope

from ..errors import DataError, UserError
from ..openmm.config.building import building
from ..openmm.config.loading import load_config
from ..openmm.trained import test_dataset
from ..reid.where import Where
from ..runtime.exported_detector import is_exported
from ..visualization.rank_lists import Shown, draw_rank_list
from .classifier import Classifier
from .detector import Detector
from .inferencer import Inferencer
from .inputs import find_images
from .passages import as_shown
from .person_search import PersonSearch, clock, read_clock
from .videos import Image

T = TypeVar('T')
EXAMPLES = 8
MOST_TRACKS = 60  # of a video that are shown to choose from
NAME_LENGTH = 12  # of a query below its picture, as the tools write it
DETECTION_COLUMNS = ('class', 'score', 'left', 'top', 'right', 'bottom')
SEARCH_COLUMNS = ('rank', 'distance', 'camera', 'from', 'to', 'video', 'track')


@dataclass(frozen=True, eq=False)
class Answer:
    """What is shown for an image.

    Attributes:
        line: What was found and how long it took, or what is wrong with the image.
        failed: It is the latter; all else is empty then.
        scores: Of the best classes, by their names.
        picture: (H, W, 3) uint8, RGB.
        rows: Of a table.
    """

    line: str = ''
    failed: bool = False
    scores: dict[str, float] = field(default_factory=dict)
    picture: np.ndarray | None = None
    rows: list[list[Any]] = field(default_factory=list)


class Track(NamedTuple):
    """Somebody in a video, to be chosen: the best picture's file, and from when on."""

    picture: str
    caption: str


def answer(work: Callable[..., Answer], file: str | Path | None, *arguments: Any) -> Answer:
    """``work(file, *arguments)``; an answer in one line where the file or an argument is wrong.

    Args:
        work: One of the functions below, its model given.
        file: Of an image, as it was uploaded: the line has its name alone. None: there is none, and
            nothing is answered.
        *arguments: As ``work`` takes them.
    """
    if file is None:
        return Answer()
    try:
        return work(file, *arguments)
    except UserError as error:
        line = str(error).replace(str(file), Path(file).name)
        return Answer(' '.join(line.split()), failed=True)


def classify(classifier: Classifier, file: str | Path) -> Answer:
    """The best classes of an image.

    Raises:
        DataError: It cannot be read.
    """
    result, taken = _look(classifier, file)
    line = f'{result.name} ({100 * result.score:.1f} %), {taken}'
    return Answer(line, scores=dict(result.top()))


def detect(detector: Detector, file: str | Path, score_thr: float) -> Answer:
    """The objects of an image, drawn into it and in a table, best first.

    Raises:
        DataError: It cannot be read.
        ConfigError: The threshold is none.
    """
    result, taken = _look(detector, file, score_thr=score_thr, masks=True)
    picture = np.ascontiguousarray(detector.draw(file, result)[..., ::-1])
    rows = [
        [name, round(score, 3), *(round(side, 1) for side in box)]
        for name, score, box in zip(
            result.names, result.scores.tolist(), result.boxes.tolist(), strict=True
        )
    ]
    return Answer(f'{_counted(len(rows), "object")}, {taken}', picture=picture, rows=rows)


def search(
    people: PersonSearch,
    file: str | Path,
    top: int,
    cameras: Sequence[int] = (),
    begin: str | None = None,
    end: str | None = None,
) -> Answer:
    """Tracks of people who look like the one of a picture: a rank list and a table, nearest first.

    Args:
        people: Its tracks.
        file: The picture.
        top: How many are shown.
        cameras: Of these alone; none: of all.
        begin, end: Of these times alone, as ``10:00`` or ``10:00:30``; None or empty: of all.

    Raises:
        DataError: The picture cannot be read; no track is of such cameras and times.
        ConfigError: A time cannot be read.
    """
    times = [read_clock(text) if text and text.strip() else None for text in (begin, end)]
    where = people.where(list(cameras) or None, None, *times)
    started = time.perf_counter()
    [found] = people.search_features(people.extractor([str(_image(file).path)]), top, where)
    taken = _told(time.perf_counter() - started)
    query = Shown(file, [Path(file).name[:NAME_LENGTH]])
    rows = [
        [
            track.rank,
            round(track.distance, 3),
            track.camera,
            clock(track.begin),
            clock(track.end),
            Path(track.video).name,
            track.track,
        ]
        for track in found
    ]
    picture = draw_rank_list(query, [as_shown(track) for track in found])
    line = f'nearest {_counted(len(found), "track")} of {len(people.gallery.find(where))}, {taken}'
    return Answer(line, picture=picture, rows=rows)


def tracks_of(people: PersonSearch, name: str) -> tuple[list[Track], int]:
    """Who is in a video, as they come in it, and how many there are.

    Of more than :data:`MOST_TRACKS` those are given who are in it longest.

    Args:
        people: Its tracks.
        name: Of the video in the gallery's column ``name``.
    """
    numbers = people.gallery.find(Where(columns={'name': name}))
    pictures, columns = people.gallery.take(numbers)
    rows = range(len(numbers))
    longest = sorted(rows, key=lambda row: columns['first'][row] - columns['last'][row])
    chosen = sorted(longest[:MOST_TRACKS], key=lambda row: (columns['first'][row], row))
    tracks = [
        Track(
            str(people.folder / pictures.paths[row]),
            clock(columns['begin'][row]),
        )
        for row in chosen
    ]
    return tracks, len(rows)


def find_examples(config: str | Path, count: int = EXAMPLES) -> list[str]:
    """Files of a config's test images, evenly spaced; none where the data set is not there.

    Raises:
        UserError: The data set is there, but cannot be read.
    """
    if is_exported(config):
        return []
    cfg = load_config(str(config), [])
    root = test_dataset(cfg).get('data_root')
    if not root or not Path(root).is_dir():
        return []
    scope = cfg.get('default_scope', 'mmpretrain')
    with DefaultScope.overwrite_default_scope(scope), building(cfg, 'test_dataloader'):
        images = DATASETS.build(copy.deepcopy(cfg.test_dataloader.dataset))
    return [
        str(images.get_data_info(place)['img_path']) for place in spread(range(len(images)), count)
    ]


def spread(items: Sequence[T], count: int = EXAMPLES) -> list[T]:
    """At most ``count`` of them, evenly spaced."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places.tolist()]


def warm_up(inferencer: Inferencer) -> None:
    """Look at a grey image: the first one takes longer, which no answer should tell."""
    inferencer(np.full((64, 64, 3), 127, np.uint8))


def _look(inferencer: Inferencer, file: str | Path, **options: Any) -> tuple[Any, str]:
    """The result of an image, and how long reading, preparing and computing took, in words."""
    image = _image(file)
    started = time.perf_counter()
    [(_, result)] = inferencer.run([image], **options)
    return result, _told(time.perf_counter() - started)


def _image(file: str | Path) -> Image:
    [found] = find_images(file)
    if not isinstance(found, Image):
        raise DataError(f'{file}: an image is needed, not a video')
    return found


def _told(seconds: float) -> str:
    return f'{1000 * seconds:.0f} ms' if seconds < 1 else f'{seconds:.1f} s'


def _counted(count: int, what: str) -> str:
    return f'{count} {what}{"" if count == 1 else "s"}'
