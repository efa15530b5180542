"""How well a person is found, among tracks or in pictures: who they show, and average precision."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from .tracklets import Tracklet

NOBODY = -1
MIN_IOU = 0.5


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Overlap of each of (N, 4) boxes with each of (M, 4), by left, top, right, bottom: (N, M)."""
    first, second = np.asarray(first, float)[:, None], np.asarray(second, float)[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    sizes = [(boxes[..., 2:] - boxes[..., :2]).prod(2) for boxes in (first, second)]
    return shared / np.maximum(sizes[0] + sizes[1] - shared, 1e-12)


def name_tracks(tracks: Iterable[Tracklet], truth: Sequence[Tracklet]) -> dict[int, int]:
    """Who each track shows, by its number: -1 for nobody in particular.

    A box is the person's whose true box of that frame it overlaps most, by 0.5 or more; a track is
    the person's to whom more than half of its boxes belong.
    """
    there: dict[int, list[tuple[int, list[float]]]] = defaultdict(list)
    for person in truth:
        for frame, box in zip(person.frames, person.boxes, strict=True):
            there[frame].append((person.number, box))
    named = {}
    for track in tracks:
        votes: Counter[int] = Counter()
        for frame, box in zip(track.frames, track.boxes, strict=True):
            if there[frame]:
                numbers, boxes = zip(*there[frame], strict=True)
                ious = box_ious(np.array([box]), np.array(boxes))[0]
                if ious.max() >= MIN_IOU:
                    votes[numbers[int(ious.argmax())]] += 1
        [(number, count)] = votes.most_common(1) or [(NOBODY, 0)]
        named[track.number] = number if 2 * count > len(track) else NOBODY
    return named


def average_precision(
    ranked: Sequence[tuple[int, Hashable]], person: int, places: Iterable[Hashable]
) -> float:
    """Of one query.

    Args:
        ranked: Person and place (camera) of each track, nearest first.
        person: Who is looked for.
        places: Where the person was in truth. A place counts once: further tracks of it are passed
            over, and one without a track counts as never found.

    Returns:
        The mean, over these places, of the precision at the rank of the first track there.
    """
    open_places = set(places)
    count, found, hits = len(open_places), set(), []
    for who, place in ranked:
        right = who == person and place in open_places
        if right and place in found:
            continue
        hits.append(right)
        if right:
            found.add(place)
    return precision_of(hits, count)


def precision_of(hits: Sequence[bool] | np.ndarray, count: int) -> float:
    """Average precision of a ranking: the mean, over all ``count`` that should have been found, of
    the precision at the rank of each that was; NaN where there is nothing to find."""
    if not count:
        return float('nan')
    ranks = np.flatnonzero(np.asarray(hits, bool)) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).sum() / count)
