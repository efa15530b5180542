"""Person search in whole pictures judged, as PRW and CUHK-SYSU are: mAP and top-1, top-5, top-10.

In each picture with the person one box is a hit: of those that overlap the true one enough the most
alike (Xiao et al., 2017, and the evaluations published since). Enough is min(0.5, wh / ((w + 10)
(h + 10))), that is 0.5 but for very small boxes. All others are misses, a second box at the person
too; who was not detected counts as never found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .search_metrics import MIN_IOU, box_ious, precision_of
from .search_sets import Box, SearchQuery


class FoundPeople(NamedTuple):
    """Who was found in a picture.

    Attributes:
        boxes: (N, 4): left, top, right, bottom in pixels.
        scores: (N,), of the detector.
        features: (N, D).
    """

    boxes: np.ndarray
    scores: np.ndarray
    features: np.ndarray


class SearchFigures(NamedTuple):
    """Of a data set; the first four from 0 to 1.

    Attributes:
        mAP: Mean average precision.
        top1, top5, top10: Share of queries with a hit among the first.
        queries: How many count.
        left_out: How many do not: their person is in no picture that they are searched in.
    """

    mAP: float  # noqa: N815
    top1: float
    top5: float
    top10: float
    queries: int
    left_out: int


class FoundInPictures:
    """People of many pictures, in one array to be ranked.

    Args:
        people: Pairs of a picture's name and who was found in it.
        score_thr: Boxes below this score do not count.
    """

    def __init__(self, people: Iterable[tuple[str, FoundPeople]], score_thr: float) -> None:
        self._rows: dict[str, slice] = {}
        boxes, features, end = [], [], 0
        for name, found in people:
            kept = found.scores >= score_thr
            self._rows[name] = slice(end, end := end + int(kept.sum()))
            boxes.append(found.boxes[kept])
            features.append(found.features[kept])
        if end == 0:
            raise DataError(f'nobody was found in any picture with a score of {score_thr} or more')
        filled = [part for part in features if len(part)]
        self._boxes, self._features = np.concatenate(boxes), normalised(np.concatenate(filled))

    def judge(self, query: SearchQuery, feature: np.ndarray) -> tuple[np.ndarray, float]:
        """Search for somebody.

        Args:
            query: Who.
            feature: (D,).

        Returns:
            Whether each box is a hit, the most alike first, and the average precision.

        Raises:
            DataError: A picture of the gallery was not looked at.
        """
        parts = []
        for name in dict.fromkeys(query.gallery):
            if name not in self._rows:
                raise DataError(f'picture {name}: no line says who was found in it')
            if name != query.image:
                parts.append(self._rows[name])
        rows = np.concatenate([np.arange(part.start, part.stop) for part in parts])
        alike = self._features[rows] @ normalised(feature[None])[0]
        hits = np.zeros(len(self._boxes), bool)
        by_row = np.full(len(hits), -np.inf)
        by_row[rows] = alike
        for name, box in query.targets.items():
            here = range(len(hits))[self._rows[name]]
            matching = [row for row in here if _overlaps(self._boxes[row], box)]
            if matching:
                hits[max(matching, key=by_row.__getitem__)] = True
        order = np.argsort(-alike, kind='stable')
        ranked = hits[rows[order]]
        return ranked, precision_of(ranked, len(query.targets))


def _overlaps(found: np.ndarray, true: Box) -> bool:
    width, height = true[2] - true[0], true[3] - true[1]
    enough = min(MIN_IOU, width * height / ((width + 10) * (height + 10)))
    return bool(box_ious(found[None], np.array([true]))[0, 0] >= enough)


def normalised(features: np.ndarray) -> np.ndarray:
    """(N, D) of length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def judge_search(
    queries: Sequence[SearchQuery],
    features: np.ndarray,
    found: Mapping[str, FoundPeople],
    score_thr: float = 0.5,
) -> SearchFigures:
    """Figures of all queries.

    Args:
        queries: Who is looked for.
        features: (Q, D), of each.
        found: Who was found in each picture of their galleries.
        score_thr: Boxes below this score do not count.

    Raises:
        DataError: A picture was not looked at, nobody was found, or no query is left.
    """
    people = FoundInPictures(found.items(), score_thr)
    judged = [
        people.judge(query, feature)
        for query, feature in zip(queries, features, strict=True)
        if query.targets
    ]
    if not judged:
        raise DataError(f'none of {len(queries)} people looked for is in another picture')
    top1, top5, top10 = (
        float(np.mean([hits[:top].any() for hits, _ in judged])) for top in (1, 5, 10)
    )
    mean = float(np.mean([precision for _, precision in judged]))
    return SearchFigures(mean, top1, top5, top10, len(judged), len(queries) - len(judged))
