"""The evaluation as a metric of mmengine's runner, under one process or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from logging import WARNING
from typing import Any

import numpy as np
from mmengine.dist import broadcast_object_list, collect_results, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ...errors import ConfigError, DataError
from ...reid.distances import check_distance
from ...reid.expansion import QueryExpansion
from ...reid.features import ReIDFeatures
from ...reid.ranking import RankLists, ReIDResults, evaluate
from ...reid.reranking import Reranking
from ...utils.distributed import on_main_process
from ..registry import METRICS

RANKS = (1, 5, 10)
LIST_LENGTH = 10
SUBSETS = ('query', 'gallery')
NEEDED = ('feature', 'pid', 'camid', 'img_path', 'subset', 'sample_idx')


@METRICS.register_module()
class ReIDMetric(BaseMetric):
    """mAP, mINP and CMC at rank 1, 5 and 10, in percent.

    Takes ``feature``, ``pid``, ``camid``, ``subset``, ``img_path`` and ``sample_idx`` of each data
    sample. All processes' samples are put into the data set's order, those that a sampler gave to
    two of them once, so that the figures do not depend on the number of processes.

    Args:
        distance: ``'cosine'`` or ``'euclidean'``.
        cuhk03: CMC by CUHK03's single-gallery-shot protocol.
        rerank: ``dict(k1=20, k2=6, lambda_value=0.3)`` re-ranks by k-reciprocal neighbours.
        query_expansion: ``dict(k=5, alpha=3.0)`` expands the queries.
        max_rank: Length of the CMC curve in :attr:`figures`.
        num_lists: Keep the first ten items of so many queries' rankings, evenly in the set.
        collect_device: As mmengine's.
        prefix: Of the figures' names.
        collect_dir: As mmengine's.

    Attributes:
        features: Queries and gallery of the last evaluation, in the main process.
        figures: All figures of the last evaluation, in the main process.
        lists: Of the last evaluation, in the main process.

    Raises:
        ConfigError: An argument that cannot be.
    """

    default_prefix = 'reid'

    def __init__(
        self,
        distance: str = 'cosine',
        cuhk03: bool = False,
        rerank: Mapping[str, Any] | None = None,
        query_expansion: Mapping[str, Any] | None = None,
        max_rank: int = 50,
        num_lists: int = 0,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        check_distance(distance)
        if max_rank < max(RANKS):
            raise ConfigError(f'max_rank={max_rank}: must be {max(RANKS)} or more')
        if num_lists < 0:
            raise ConfigError(f'num_lists={num_lists}: must be 0 or more')
        self.num_lists = num_lists
        self.options = {
            'distance': distance,
            'cuhk03': cuhk03,
            'max_rank': max_rank,
            'rerank': _settings(Reranking, 'rerank', rerank),
            'expansion': _settings(QueryExpansion, 'query_expansion', query_expansion),
        }
        self.features: tuple[ReIDFeatures, ReIDFeatures] | None = None
        self.figures: ReIDResults | None = None
        self.lists: RankLists | None = None
        self._size = 0

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep a batch's features and labels."""
        for sample in data_samples:
            if missing := [name for name in NEEDED if name not in sample]:
                raise DataError(
                    f'ReIDMetric: a data sample has no {", ".join(missing)}; the features come '
                    'from ReIDModel, the others from ReIDDataset through the meta_keys of the '
                    "pipeline's PackInputs"
                )
            if sample['subset'] not in SUBSETS:
                raise DataError(
                    f'{sample["img_path"]}: subset {sample["subset"]!r} cannot be evaluated, only '
                    f'{" and ".join(SUBSETS)}'
                )
            self.results.append({name: sample[name] for name in NEEDED})
            self.results[-1]['feature'] = sample['feature'].detach().float().cpu().numpy()

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather the samples of all processes and compute the figures of the whole set.

        Args:
            size: Images in the data set.

        Raises:
            DataError: Images are missing, features cannot be used, or no query has a match.
        """
        # A process hands over one entry with all its samples: mmengine would cut off the padding
        # by position, which is right only for a sampler that interleaves the processes.
        own = [_packed(self.results)] if self.results else []
        self.results.clear()
        parts = collect_results(own, get_world_size(), self.collect_device, self.collect_dir)
        figures: list[dict[str, float]] = [{}]

        def judge() -> None:
            self._size = size
            figures[0] = self.compute_metrics(parts)

        on_main_process(judge)
        broadcast_object_list(figures)
        return {f'{self.prefix}/{name}': value for name, value in figures[0].items()}

    def collected(self) -> tuple[ReIDFeatures, ReIDFeatures] | None:
        """Queries and gallery of what this process has seen since the last evaluation."""
        return _features(_packed(self.results)) if self.results else None

    def compute_metrics(self, results: list[dict[str, np.ndarray]]) -> dict[str, float]:
        """The figures from the packed samples of the processes that had any."""
        if not results:
            raise DataError('ReIDMetric: not a single image was evaluated')
        joined = {name: np.concatenate([part[name] for part in results]) for name in NEEDED}
        index, first = np.unique(joined['sample_idx'], return_index=True)
        if len(index) != self._size:
            raise DataError(
                f'ReIDMetric: {len(index)} different images were evaluated, the data set has '
                f'{self._size}; its sampler leaves some out'
            )
        joined = {name: values[first] for name, values in joined.items()}
        self.features = query, gallery = _features(joined)
        chosen = np.linspace(0, len(query) - 1, min(self.num_lists, len(query))).round()
        self.lists = RankLists(chosen.astype(int), LIST_LENGTH)
        self.figures = figures = evaluate(query, gallery, lists=self.lists, **self.options)
        if left_out := figures.num_queries - figures.num_valid_queries:
            print_log(
                f'{left_out} of {figures.num_queries} queries have no match in the gallery and are '
                'left out',
                logger='current',
                level=WARNING,
            )
        shares = {'mAP': figures.mAP, **{f'rank_{k}': figures.rank(k) for k in RANKS}}
        shares['mINP'] = figures.mINP
        return {name: round(100 * value, 2) for name, value in shares.items()}


def _packed(samples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """One array for each of the needed names."""
    kinds = {'feature': np.float32, 'img_path': object, 'subset': object}
    return {
        name: np.array([sample[name] for sample in samples], kinds.get(name, np.int64))
        for name in NEEDED
    }


def _features(joined: Mapping[str, np.ndarray]) -> tuple[ReIDFeatures, ReIDFeatures]:
    """Queries and gallery of packed samples."""
    query, gallery = (
        ReIDFeatures(
            *(joined[name][joined['subset'] == subset] for name in NEEDED[:4]),
            source=f'{subset} features',
        )
        for subset in SUBSETS
    )
    return query, gallery


def _settings(kind: type, key: str, values: Mapping[str, Any] | None) -> Any:
    """Settings from a config's dict, or None."""
    if values is None:
        return None
    options = [field.name for field in fields(kind)]
    if unknown := [name for name in values if name not in options]:
        raise ConfigError(f'{key}: no option {unknown[0]!r}; it has {", ".join(options)}')
    return kind(**values)
