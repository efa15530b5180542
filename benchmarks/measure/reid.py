"""Time and memory of re-ID evaluation, ours and torchreid's, at the sizes of published sets.

A measurement is a function that runs in a process of its own (:func:`.isolation.run_isolated`): no
peak hides another. Memory is counted above the features, which whoever evaluates has anyway.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from effvit_mm.reid.distances import FeatureSpace
from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.ranking import evaluate, evaluate_distances
from effvit_mm.reid.reranking import Reranking

from .memory import peak_bytes, reset_peak, resident_bytes

DISTANCE = 'cosine'
SPREAD = 2.6  # of a person's features, against 1 between people: re-ranking has something to do
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class SetSize:
    """How large a set is.

    Attributes:
        name: What it is called.
        queries: Images that are searched for.
        gallery: Images that are searched.
        people: Different persons.
        cameras: Different cameras.
        width: Of the features.
    """

    name: str
    queries: int
    gallery: int
    people: int
    cameras: int
    width: int = 512

    def scaled(self, factor: float) -> SetSize:
        """The same with a part of the images and people."""
        counts = {
            name: max(8, round(getattr(self, name) * factor))
            for name in ('queries', 'gallery', 'people')
        }
        return replace(self, **counts)

    def __str__(self) -> str:
        return f'{self.name}, {self.queries:,} x {self.gallery:,}'


# Of the gallery of Market-1501 a sixth are distractors; here they are people like others.
SETS = (
    SetSize('Market-1501', 3368, 15913, 750, 6),
    SetSize('MSMT17', 11659, 82161, 3060, 15),
)


class Measurement(NamedTuple):
    """What a measurement gave.

    Attributes:
        seconds: Of the work alone, features or distances being there.
        peak: Bytes above the features.
        queries: For how many queries; fewer than the set has where the rest is extrapolated.
        mAP: The figure that came out.
        difference: torchreid's only: the largest difference between its figures and ours.
    """

    seconds: float
    peak: int
    queries: int
    mAP: float  # noqa: N815
    difference: float = 0.0


def make_features(size: SetSize) -> tuple[ReIDFeatures, ReIDFeatures]:
    """Queries and gallery: random, in clusters, the same at each call."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((size.people, size.width), dtype=np.float32)
    made = []
    for count in (size.queries, size.gallery):
        pids = rng.integers(0, size.people, count)
        features = np.empty((count, size.width), np.float32)
        for start in range(0, count, ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            rng.standard_normal(out=features[part], dtype=np.float32)
            features[part] *= SPREAD
            features[part] += centres[pids[part]]
        made.append(ReIDFeatures(features, pids, rng.integers(0, size.cameras, count)))
    return made[0], made[1]


class Watch:
    """Seconds and bytes of a piece of work."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak = 0
        self.before = resident_bytes()
        reset_peak()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time; the peak counts from this object's beginning."""
        start = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - start
        self.peak = peak_bytes() - self.before


def measure_evaluation(size: SetSize, threads: int) -> Measurement:
    """Ours, from features to figures."""
    torch.set_num_threads(threads)
    query, gallery = make_features(size)
    watch = Watch()
    with watch.timed():
        figures = evaluate(query, gallery, DISTANCE)
    return Measurement(watch.seconds, watch.peak, len(query), figures.mAP)


def measure_reranking(size: SetSize, threads: int) -> Measurement:
    """Ours, from features to the figures of the new order."""
    torch.set_num_threads(threads)
    query, gallery = make_features(size)
    watch = Watch()
    with watch.timed():
        figures = evaluate(query, gallery, DISTANCE, rerank=Reranking())
    return Measurement(watch.seconds, watch.peak, len(query), figures.mAP)


def measure_torchreid_evaluation(size: SetSize, threads: int, most: int) -> Measurement:
    """torchreid's ``evaluate_rank`` in Python, on distances that are there, of some queries."""
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that its Cython part is not there
        from torchreid.reid.metrics import evaluate_rank
    query, gallery = make_features(size)
    query = query[:most]
    watch = Watch()
    distances = distance_matrix(query, gallery)
    labels = query.pids, gallery.pids, query.camids, gallery.camids
    with watch.timed():
        cmc, precision = evaluate_rank(distances, *labels, use_cython=False)
    ours = evaluate_distances(distances, *labels)
    difference = max(np.abs(cmc - ours.cmc).max(), abs(precision - ours.mAP))
    return Measurement(watch.seconds, watch.peak, len(query), float(precision), float(difference))


def measure_torchreid_reranking(size: SetSize, threads: int) -> Measurement:
    """torchreid's ``re_ranking``, on distances that are there."""
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from torchreid.reid.utils import re_ranking
    query, gallery = make_features(size)
    watch = Watch()
    pairs = (query, gallery), (query, query), (gallery, gallery)
    distances = [distance_matrix(left, right) for left, right in pairs]
    with watch.timed():
        final = re_ranking(*distances)
    labels = query.pids, gallery.pids, query.camids, gallery.camids
    precision = evaluate_distances(final, *labels).mAP
    # Not of the distances: at this size some neighbours are tied in float32, and whichever of them
    # is taken changes the distances to a few images by up to a hundredth.
    difference = abs(precision - evaluate(query, gallery, DISTANCE, rerank=Reranking()).mAP)
    return Measurement(watch.seconds, watch.peak, len(query), precision, difference)


def distance_matrix(left: ReIDFeatures, right: ReIDFeatures) -> np.ndarray:
    """A whole matrix."""
    matrix = torch.empty(len(left), len(right))
    spaces = (FeatureSpace(features.features, DISTANCE) for features in (left, right))
    first, second = spaces
    return first.block(slice(None), second, matrix).numpy()
