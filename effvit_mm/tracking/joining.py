"""Tracklets of one person made one track, by what they look like.

A tracker that knows positions alone gives somebody who was hidden, or who turned behind a pillar, a
second number. As Zhang et al. ("Multi-target, multi-camera tracking by hierarchical
clustering", 2017) do within a camera, tracklets are clustered by the distance of their mean
features, nearest first, where at most a certain time lies between them and no frame shows both.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import ConfigError
from .tracklets import Tracklet, joined

MAX_GAP = 4.0  # seconds
MAX_DISTANCE = 0.2


def join_tracklets(
    tracklets: Sequence[Tracklet],
    fps: float,
    *,
    max_gap: float = MAX_GAP,
    max_distance: float = MAX_DISTANCE,
) -> list[Tracklet]:
    """Tracks, in the order of their first frames and numbered from 1.

    Two clusters become one, the nearest pair of all first, where the cosine distance of their mean
    features is at most ``max_distance``, at most ``max_gap`` seconds lie between two of their
    tracklets, and no frame has both. A tracklet without a feature stays alone.

    Args:
        tracklets: Of one video.
        fps: Its frames a second.
        max_gap: Seconds.
        max_distance: Of 1 - cosine, from 0 to 2.

    Raises:
        ConfigError: An argument is out of its range.
    """
    if not max_gap >= 0:
        raise ConfigError(f'max_gap={max_gap}: seconds, 0 or more, are needed')
    if not 0 <= max_distance <= 2:
        raise ConfigError(f'max_distance={max_distance}: a number from 0 to 2 is needed')
    clusters = _cluster(
        sorted(tracklets, key=lambda part: (part.first, part.number)), max_gap * fps, max_distance
    )
    clusters.sort(key=lambda parts: (min(p.first for p in parts), parts[0].number))
    return [joined(parts, number) for number, parts in enumerate(clusters, start=1)]


def _cluster(
    tracklets: Sequence[Tracklet], gap: float, max_distance: float
) -> list[list[Tracklet]]:
    """Lists of tracklets that belong together."""
    clusters = {number: [tracklet] for number, tracklet in enumerate(tracklets)}
    sums = {n: t.feature * t.weight for n, t in enumerate(tracklets) if t.feature is not None}
    spans = {n: (tracklets[n].first, tracklets[n].last) for n in sums}
    fresh = itertools.count(len(tracklets))
    queue: list[tuple[float, int, int]] = []

    def propose(first: int, second: int) -> None:
        distance = cosine_distance(sums[first], sums[second])
        if distance <= max_distance and _may_join(clusters[first], clusters[second], gap):
            heapq.heappush(queue, (distance, first, second))

    near = _neighbours(spans, gap)
    for first, others in near.items():
        for second in sorted(other for other in others if other > first):
            propose(first, second)
    while queue:
        _, first, second = heapq.heappop(queue)
        if first not in clusters or second not in clusters:
            continue
        number = next(fresh)
        clusters[number] = clusters.pop(first) + clusters.pop(second)
        sums[number] = sums.pop(first) + sums.pop(second)
        # Whatever is near to the two together is near to one of them.
        near[number] = (near.pop(first) | near.pop(second)) - {first, second}
        for other in sorted(near[number]):
            near[other] = near[other] - {first, second} | {number}
            propose(other, number)
    return list(clusters.values())


def _neighbours(spans: Mapping[int, tuple[int, int]], gap: float) -> dict[int, set[int]]:
    """For each span, those with at most so many frames between; spans come by their beginnings."""
    near: dict[int, set[int]] = {number: set() for number in spans}
    going: list[int] = []  # those that a later one may be near to
    for number, (begin, _) in spans.items():
        going = [other for other in going if begin - spans[other][1] - 1 <= gap]
        for other in going:
            near[other].add(number)
            near[number].add(other)
        going.append(number)
    return near


def _may_join(first: Sequence[Tracklet], second: Sequence[Tracklet], gap: float) -> bool:
    """Whether no frame shows both, and some two follow each other soon enough."""
    near = False
    for a, b in itertools.product(first, second):
        if a.first > b.last:
            between = a.first - b.last - 1
        elif b.first > a.last:
            between = b.first - a.last - 1
        elif set(a.frames) & set(b.frames):
            return False
        else:
            between = 0
        near |= between <= gap
    return near


def cosine_distance(first: np.ndarray, second: np.ndarray) -> float:
    """1 - cosine of two vectors; 1 where one of them is zero."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return 1.0 if lengths == 0 else 1 - float(first @ second) / lengths
