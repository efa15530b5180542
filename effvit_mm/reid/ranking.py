"""How well a gallery is ranked: CMC, mAP, mINP, ROC, by Market-1501's and CUHK03's protocol.

For a query, gallery items of the same person and camera and items of nobody (person -1) are left
out. Nothing is sorted that long: a match's rank is one more than the number of items before it, and
those are counted. Of two items at the same distance the one that stands first in the gallery comes
first. Queries without a match are left out of all figures, and counted.

mINP is Ye et al.'s (Deep Learning for Person Re-identification: A Survey and Outlook, 2020): the
mean of matches / rank of the last match.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError, DataError
from .distances import Blocks, check_distance, distance_blocks, rows_in_block
from .expansion import QueryExpansion
from .features import JUNK, ReIDFeatures

if TYPE_CHECKING:
    from .reranking import Reranking  # needs SciPy

FALSE_ACCEPT_RATES = (1e-4, 1e-3, 1e-2)
SINGLE_SHOT_REPEATS = 10
# Counting takes a pass over the row for each match; for more matches than this, sorting the row's
# values once is faster (numpy's float32 sort costs about as much as 30 counts).
COUNTED_MATCHES = 32


@dataclass(frozen=True)
class ReIDResults:
    """Figures between 0 and 1.

    Attributes:
        cmc: (max_rank,) share of queries with a match among the first 1, 2, ... items.
        mAP: Mean average precision.
        mINP: Mean inverse negative penalty.
        roc: For each false-accept rate the largest share of matching pairs that a threshold
            accepts, below which lies no larger share of the pairs of different people.
        num_queries: How many there were.
        num_valid_queries: How many of them have a match.
    """

    cmc: np.ndarray
    mAP: float  # noqa: N815
    mINP: float  # noqa: N815
    roc: Mapping[float, float] = field(default_factory=dict)
    num_queries: int = 0
    num_valid_queries: int = 0

    def rank(self, k: int) -> float:
        """CMC at rank ``k``; a gallery shorter than ``k`` has been looked through."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])


def evaluate(
    query: ReIDFeatures,
    gallery: ReIDFeatures,
    distance: str = 'cosine',
    *,
    cuhk03: bool = False,
    max_rank: int = 50,
    fars: Sequence[float] = FALSE_ACCEPT_RATES,
    rerank: Reranking | None = None,
    expansion: QueryExpansion | None = None,
    seed: int = 0,
    lists: RankLists | None = None,
) -> ReIDResults:
    """Rank the gallery for each query and judge the order.

    Args:
        query: Features of the queries.
        gallery: Features of the gallery.
        distance: ``'cosine'`` or ``'euclidean'``.
        cuhk03: CMC by CUHK03's single-gallery-shot protocol (:class:`SingleShot`).
        max_rank: Length of the CMC curve; at most the gallery's size.
        fars: False-accept rates of the ROC. The largest times the number of pairs is the number
            of distances that are kept, 4 to 8 bytes each.
        rerank: Re-rank by k-reciprocal neighbours.
        expansion: Replace the queries by means with their neighbours, before anything else.
        seed: Of CUHK03's random choices.
        lists: Filled with the first items of its queries' rankings.

    Raises:
        ConfigError: An argument that cannot be.
        DataError: Features that are not finite or of different models, an empty gallery, or not a
            single query with a match.
    """
    places = np.flatnonzero(gallery.pids != JUNK)
    gallery = _ready_gallery(query, gallery, distance)
    pairs = Pairs(query.pids, gallery.pids, query.camids, gallery.camids)
    protocol = SingleShot(gallery.pids, seed) if cuhk03 else None
    ranker = _Ranker(pairs, max_rank, fars, protocol)
    blocks = _compare(query, gallery, distance, rerank, expansion)
    return ranker.run(blocks if lists is None else lists.read(blocks, pairs, places))


def evaluate_distances(
    distances: np.ndarray,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_camids: np.ndarray,
    g_camids: np.ndarray,
    *,
    cuhk03: bool = False,
    max_rank: int = 50,
    fars: Sequence[float] = FALSE_ACCEPT_RATES,
    seed: int = 0,
) -> ReIDResults:
    """Judge rankings by distances that exist already.

    Args:
        distances: (Q, G), of queries to gallery items; they are not changed.
        q_pids, g_pids: (Q,) and (G,) persons; -1 is junk.
        q_camids, g_camids: (Q,) and (G,) cameras.
        cuhk03: CMC by CUHK03's single-gallery-shot protocol.
        max_rank: Length of the CMC curve; at most the gallery's size.
        fars: False-accept rates of the ROC.
        seed: Of CUHK03's random choices.

    Raises:
        DataError: Labels of other lengths, distances that are not finite, or no query has a match.
    """
    distances = np.asarray(distances, dtype=np.float32)
    labels = {'q_pids': q_pids, 'q_camids': q_camids, 'g_pids': g_pids, 'g_camids': g_camids}
    for name, values in labels.items():
        expected = distances.shape[name.startswith('g_')]
        if len(values) != expected:
            raise DataError(f'{name} has {len(values)} entries for distances {distances.shape}')
    kept = np.asarray(g_pids) != JUNK
    g_pids, g_camids = np.asarray(g_pids)[kept], np.asarray(g_camids)[kept]
    pairs = Pairs(np.asarray(q_pids), g_pids, np.asarray(q_camids), g_camids)
    protocol = SingleShot(g_pids, seed) if cuhk03 else None
    return _Ranker(pairs, max_rank, fars, protocol).run(_copied_blocks(distances, kept))


def nearest(
    query: ReIDFeatures,
    gallery: ReIDFeatures,
    top: int,
    distance: str = 'cosine',
    *,
    rerank: Reranking | None = None,
    expansion: QueryExpansion | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The first items of each query's ranking, for pictures.

    Junk and images of the query's person by its own camera are left out.

    Args:
        query: Features of the queries.
        gallery: Features of the gallery.
        top: Length of a list.
        distance: ``'cosine'`` or ``'euclidean'``.
        rerank: Re-rank by k-reciprocal neighbours.
        expansion: Replace the queries by means with their neighbours.

    Returns:
        (Q, top) int64 indices into the gallery and (Q, top) float32 distances; where a ranking is
        shorter, -1 and infinity.
    """
    places = np.flatnonzero(gallery.pids != JUNK)
    gallery = _ready_gallery(query, gallery, distance)
    pairs = Pairs(query.pids, gallery.pids, query.camids, gallery.camids)
    lists = RankLists(range(len(query)), top)
    for _ in lists.read(_compare(query, gallery, distance, rerank, expansion), pairs, places):
        pass
    return lists.indices, lists.distances


class RankLists:
    """The first items of some queries' rankings, for pictures, without what does not count.

    Args:
        queries: Places of the queries, each once.
        top: Length of a list.

    Attributes:
        indices: (len(queries), top) int64, places in the gallery; where a ranking is shorter, -1.
        distances: The same of float32 distances; where a ranking is shorter, infinity.
    """

    def __init__(self, queries: Sequence[int], top: int) -> None:
        self.rows = {int(query): row for row, query in enumerate(queries)}
        self.indices = np.full((len(self.rows), top), -1)
        self.distances = np.full((len(self.rows), top), np.inf, np.float32)

    def read(self, blocks: Blocks, pairs: Pairs, places: np.ndarray) -> Blocks:
        """Pass blocks of distances on, unchanged, and keep their lists.

        Args:
            blocks: Of distances to the gallery without junk.
            pairs: Of the same gallery.
            places: (G,) of its items in the whole gallery.
        """
        for start, block in blocks:
            for query, distances in enumerate(block, start):
                if query in self.rows:
                    left_out = pairs.split(query)[1]
                    self._keep(self.rows[query], distances.copy(), left_out, places)
            yield start, block

    def _keep(
        self, row: int, distances: np.ndarray, left_out: np.ndarray, places: np.ndarray
    ) -> None:
        distances[left_out] = np.inf
        count = min(self.indices.shape[1], int(np.isfinite(distances).sum()))
        if count == 0:
            return
        # All up to the last one's distance, so that the gallery's order decides between equals.
        first = np.flatnonzero(distances <= np.partition(distances, count - 1)[count - 1])
        first = first[np.argsort(distances[first], kind='stable')][:count]
        self.indices[row, :count] = places[first]
        self.distances[row, :count] = distances[first]


def _ready_gallery(query: ReIDFeatures, gallery: ReIDFeatures, distance: str) -> ReIDFeatures:
    """The gallery without junk, which must not even be a neighbour; raises what cannot be used."""
    check_distance(distance)
    kept = gallery.pids != JUNK
    gallery = gallery if kept.all() else gallery[kept]
    for features, name in ((query, 'queries'), (gallery, 'gallery items')):
        if len(features) == 0:
            raise DataError(f'{features.source}: there are no {name}')
        features.check_finite()
    query.check_same_space(gallery)
    return gallery


def _compare(
    query: ReIDFeatures,
    gallery: ReIDFeatures,
    distance: str,
    rerank: Reranking | None,
    expansion: QueryExpansion | None,
) -> Blocks:
    """Distances to rank by, block by block."""
    wanted = query.features
    if expansion is not None:
        wanted = expansion(wanted, gallery.features, distance)
    if rerank is not None:
        from .reranking import rerank_blocks

        return rerank_blocks(wanted, gallery.features, distance, rerank)
    return distance_blocks(wanted, gallery.features, distance)


def _copied_blocks(distances: np.ndarray, kept: np.ndarray) -> Blocks:
    columns = slice(None) if kept.all() else np.flatnonzero(kept)
    step = rows_in_block(distances.shape[1])
    for start in range(0, len(distances), step):
        yield start, np.array(distances[start : start + step, columns], order='C')


class Pairs:
    """Which gallery items match a query, and which are left out for it.

    Args:
        q_pids, g_pids: (Q,) and (G,) people; the gallery is without junk.
        q_camids, g_camids: (Q,) and (G,) cameras.
    """

    def __init__(
        self, q_pids: np.ndarray, g_pids: np.ndarray, q_camids: np.ndarray, g_camids: np.ndarray
    ) -> None:
        self.by_person = np.argsort(g_pids, kind='stable')
        people = g_pids[self.by_person]
        self.first = np.searchsorted(people, q_pids, side='left')
        self.last = np.searchsorted(people, q_pids, side='right')
        self.q_camids, self.g_camids = q_camids, g_camids
        self.g_pids = g_pids

    def __len__(self) -> int:
        return len(self.first)

    def split(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the query's matches and of what is left out, both in the gallery's order."""
        same = self.by_person[self.first[query] : self.last[query]]
        elsewhere = self.g_camids[same] != self.q_camids[query]
        return same[elsewhere], same[~elsewhere]

    def each(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Matches and what is left out, of each query in turn."""
        return map(self.split, range(len(self)))


class SingleShot:
    """CUHK03's protocol: of each person in the gallery one image, drawn at random ten times.

    With ``np.random.seed(seed)`` before it, torchreid's ``evaluate_rank(...,
    use_metric_cuhk03=True)`` makes the same choices in the same order. Only the CMC is of single
    shots; average precision and mINP are of the whole gallery, there as here. A row has to be
    sorted for it.

    Args:
        g_pids: (G,) people of the gallery.
        seed: Of the choices.
    """

    def __init__(self, g_pids: np.ndarray, seed: int) -> None:
        self.generator = np.random.RandomState(seed)  # the generator of np.random.seed
        self.people = np.unique(g_pids, return_inverse=True)[1]

    def ranks(self, row: np.ndarray, match: int) -> np.ndarray:
        """Where the match stands in each of the drawn galleries: (10,), from 1.

        Args:
            row: (G,) distances, infinite for what is left out.
            match: Index of any match; the one that counts is drawn among its person's images.
        """
        order = np.argsort(row, kind='stable')[: np.count_nonzero(row < np.inf)]
        people = self.people[order]
        grouped = np.argsort(people, kind='stable')
        starts = np.flatnonzero(np.diff(people[grouped], prepend=-1))
        sizes = np.diff(starts, append=len(order))
        # torchreid draws for one person after the other, as they first appear in the ranking.
        appearance = np.argsort(grouped[starts])
        starts, sizes = starts[appearance], sizes[appearance]
        own = np.flatnonzero(people[grouped[starts]] == self.people[match])
        shape = (SINGLE_SHOT_REPEATS, len(sizes))
        drawn = self.generator.randint(0, np.broadcast_to(sizes, shape))
        positions = grouped[starts + drawn]
        return 1 + (positions < positions[:, own]).sum(axis=1)


class _Verification:
    """Accepting pairs by a threshold; of the impostors' distances only the smallest are kept."""

    def __init__(self, fars: Sequence[float], num_impostors: int) -> None:
        for far in fars:
            if not 0 < far <= 1:
                raise ConfigError(f'fars={tuple(fars)}: false-accept rates are in (0, 1]')
        # How many impostors each rate lets in; the small addition mends 0.29 * 100 < 29.
        self.accepted = {far: math.floor(far * num_impostors + 1e-9) for far in fars}
        self.needed = 1 + max(self.accepted.values(), default=-1)
        self.bound = np.inf if fars else -np.inf
        self.impostors: list[np.ndarray] = []
        self.size = 0
        self.genuine: list[np.ndarray] = []

    def add(self, genuine: np.ndarray, impostors: np.ndarray) -> None:
        """Distances of a query: to its matches, and to others (infinite: not to be counted)."""
        if not self.accepted:
            return
        self.genuine.append(genuine)
        kept = impostors[impostors < self.bound]
        self.impostors.append(kept)
        self.size += len(kept)
        if self.size > 2 * self.needed:
            self._drop()

    def _drop(self) -> None:
        values = np.concatenate(self.impostors)
        values.partition(self.needed - 1)
        self.impostors = [values[: self.needed].copy()]
        self.bound = self.impostors[0][-1]
        self.size = self.needed

    def rates(self) -> dict[float, float]:
        """True-accept rate at each false-accept rate."""
        if not self.accepted:
            return {}
        impostors = np.sort(np.concatenate(self.impostors))
        genuine = np.concatenate(self.genuine)
        rates = {}
        for far, count in self.accepted.items():
            bound = impostors[count] if count < len(impostors) else np.inf
            rates[far] = float((genuine < bound).mean())
        return rates


class _Ranker:
    """Takes blocks of distances and adds up the figures."""

    def __init__(
        self, pairs: Pairs, max_rank: int, fars: Sequence[float], single_shot: SingleShot | None
    ) -> None:
        if max_rank < 1:
            raise ConfigError(f'max_rank={max_rank}: must be 1 or more')
        self.pairs = pairs
        self.single_shot = single_shot
        size = len(pairs.g_camids)
        matches, impostors = [], 0
        for matching, left_out in pairs.each():
            matches.append(len(matching))
            impostors += size - len(matching) - len(left_out) if len(matching) else 0
        self.valid = int(np.count_nonzero(matches))
        if self.valid == 0:
            raise DataError(
                f'none of the {len(pairs)} queries has a match: the gallery ({size} images) shows '
                'none of their people with another camera'
            )
        self.verification = _Verification(fars, impostors)
        self.first_ranks = np.zeros(min(max_rank, size))  # queries with their first match there
        self.precisions: list[float] = []
        self.penalties: list[float] = []

    def run(self, blocks: Blocks) -> ReIDResults:
        """All figures, when all blocks have been taken."""
        for start, block in blocks:
            for number, row in enumerate(block, start):
                self._take(number, row)
        return ReIDResults(
            cmc=np.cumsum(self.first_ranks) / self.valid,
            mAP=float(np.mean(self.precisions)),
            mINP=float(np.mean(self.penalties)),
            roc=self.verification.rates(),
            num_queries=len(self.pairs),
            num_valid_queries=self.valid,
        )

    def _take(self, number: int, row: np.ndarray) -> None:
        matches, left_out = self.pairs.split(number)
        if len(matches) == 0:
            return
        if not np.isfinite(row.max()) or not np.isfinite(row.min()):  # both pass NaN on
            raise DataError(f'query {number} has distances that are not finite')
        row[left_out] = np.inf
        if self.single_shot is not None:
            self._count_first(self.single_shot.ranks(row, int(matches[0])))
        genuine = row[matches]
        row[matches] = np.inf
        order = np.argsort(genuine, kind='stable')
        genuine = genuine[order]
        before = np.arange(len(matches))
        ranks = 1 + before + count_before(row, genuine, matches[order])
        if self.single_shot is None:
            self._count_first(ranks[:1])
        self.precisions.append(float(np.mean((1 + before) / ranks)))
        self.penalties.append(len(matches) / int(ranks[-1]))
        self.verification.add(genuine, row)

    def _count_first(self, ranks: np.ndarray) -> None:
        shown = ranks[ranks <= len(self.first_ranks)]
        np.add.at(self.first_ranks, shown - 1, 1 / len(ranks))


def count_before(row: np.ndarray, distances: np.ndarray, places: np.ndarray) -> np.ndarray:
    """How many items of a row stand before items at given distances and places.

    Args:
        row: (G,) distances of the others; infinite ones are never before anything.
        distances: (M,) finite, ascending.
        places: (M,) indices in the gallery, which decide at equal distances.

    Returns:
        (M,) int64.
    """
    if len(distances) <= COUNTED_MATCHES:
        each = [_count(row, value, place) for value, place in zip(distances, places, strict=True)]
        return np.array(each, dtype=np.int64)
    ordered = np.sort(row)
    counts = np.searchsorted(ordered, distances, side='left')
    tied = np.flatnonzero(counts < np.searchsorted(ordered, distances, side='right'))
    counts[tied] = [_count(row, distances[i], places[i]) for i in tied]
    return counts


def _count(row: np.ndarray, distance: np.float32, place: int) -> int:
    nearer_or_first = np.count_nonzero(row[:place] <= distance)
    return nearer_or_first + np.count_nonzero(row[place:] < distance)
