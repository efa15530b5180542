"""Person search judged where the truth is known, by sequences as in MOT17 and named queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..reid.expansion import QueryExpansion
from ..reid.names import label_files
from ..tracking.metrics import find_truths
from ..tracking.mot import read_mot
from ..tracking.search_metrics import average_precision, name_tracks
from ..visualization.pictures import contact_sheet
from ..visualization.rank_lists import Shown, draw_rank_list
from .passages import as_shown
from .person_search import TRACKS, FoundTrack, PersonSearch
from .reid import find_people


@dataclass(frozen=True)
class QueryResult:
    """What was found for a query.

    Attributes:
        picture: Its file.
        found: All tracks of other cameras, nearest first.
        right: Whether each shows the query's person.
        precision: The average precision.
    """

    picture: str
    found: list[FoundTrack]
    right: list[bool]
    precision: float

    @property
    def first(self) -> bool:
        """Whether the nearest track is the query's person."""
        return self.right[0]


def evaluate_search(
    people: PersonSearch,
    queries: str | Path,
    truth: str | Path,
    expansion: QueryExpansion | None = None,
) -> list[QueryResult]:
    """Search for each query among the tracks of other cameras.

    Tracks are named by :func:`effvit_mm.tracking.search_metrics.name_tracks`. A query whose person
    no other camera has seen is left out.

    Args:
        people: With an extractor; its videos are called as the sequences.
        queries: Folder of pictures, whose names tell person and camera, ``0137_c1_...``.
        truth: Folder of sequences with ``gt/gt.txt``; persons are numbered as in the queries.
        expansion: Of the queries, by tracks of all cameras, the query's own too; only those of
            others count as found.

    Raises:
        DataError: Files are missing or cannot be read, or no query is left.
    """
    gallery = people.gallery
    if gallery is None:
        raise DataError(f'{people.folder}: no track was indexed there')
    truths = find_truths(truth)
    columns = gallery.take(gallery.find())[1]
    cameras = dict(zip(columns['name'], columns['camera'], strict=True))
    if missing := sorted(set(cameras) - set(truths)):
        raise DataError(f'{truth}: no truth of {", ".join(missing)}')
    shows: dict[tuple[str, int], int] = {}
    seen: dict[int, set[int]] = defaultdict(set)  # cameras by persons
    for name, camera in cameras.items():
        true = read_mot(truths[name])
        for person in true:
            seen[person.number].add(camera)
        named = name_tracks(read_mot(people.folder / TRACKS / f'{name}.txt'), true)
        shows.update({(name, number): person for number, person in named.items()})
    pictures = [str(image.path) for image in find_people(queries)]
    labels = label_files(pictures)
    results = []
    for picture, person, camera in zip(
        pictures, labels.pids.tolist(), (labels.camids + 1).tolist(), strict=True
    ):
        if elsewhere := seen[person] - {camera}:
            own = camera if camera in cameras.values() else None
            [found] = people.search(picture, len(gallery), not_camera=own, expansion=expansion)
            who = [shows[people.name_of(track), track.track] for track in found]
            places = [(one, track.camera) for one, track in zip(who, found, strict=True)]
            precision = average_precision(places, person, elsewhere)
            results.append(QueryResult(picture, found, [p == person for p in who], precision))
    if not results:
        raise DataError(f'{queries}: no person in it was seen by another camera')
    return results


def draw_queries(results: Sequence[QueryResult], top: int, count: int = 8) -> np.ndarray:
    """Rank lists of ``count`` queries, evenly spaced, on one sheet: (H, W, 3) uint8, RGB."""
    chosen = np.linspace(0, len(results) - 1, min(count, len(results))).round().astype(int)
    drawn = []
    for result in (results[place] for place in chosen):
        pairs = list(zip(result.found, result.right, strict=True))[:top]
        shown = [as_shown(track, right, video=False) for track, right in pairs]
        drawn.append(draw_rank_list(Shown(result.picture, [Path(result.picture).name[:12]]), shown))
    return contact_sheet(drawn)
