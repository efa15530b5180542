"""Re-identification in the runner: persons counted for the model; what a test prints and draws."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from ...errors import ConfigError
from ...utils.drawn_files import note_drawn
from ..config.preparing import has_type
from .predictions import partial_path
from .report import format_grid

if TYPE_CHECKING:
    from ...reid.features import ReIDFeatures
    from ...reid.ranking import RankLists, ReIDResults
    from ..reid.metric import ReIDMetric

FIGURES = ('mAP', 'rank_1', 'rank_5', 'rank_10', 'mINP')
HEADERS = ('', 'mAP', 'rank-1', 'rank-5', 'rank-10', 'mINP')


def with_persons(model: Mapping, train_dataloader: Mapping | None) -> Mapping:
    """The model's config with the number of persons of the training set, where it has none.

    The model has to be whole before it is wrapped for several processes and before an optimizer is
    made of it, so the set is read once more, ahead of its time.
    """
    counted = model.get('num_classes') is not None or not model.get('classifier')
    if counted or not has_type(model, 'ReIDModel') or not isinstance(train_dataloader, Mapping):
        return model
    dataset = train_dataloader['dataset']
    if isinstance(dataset, Mapping):
        dataset = DATASETS.build(dataset)
    persons = getattr(dataset, 'num_pids', None)
    if persons is None:
        raise ConfigError(
            f'model.num_classes is missing: train_dataloader.dataset ({type(dataset).__name__}) '
            'does not say how many persons it has (num_pids)'
        )
    return ConfigDict({**model, 'num_classes': int(persons)})


def report_reid(runner, args: argparse.Namespace) -> str:
    """The table of a re-ID test; writes features and rank lists where they were asked for."""
    metric = _metric_of(runner)
    query, gallery = metric.features
    if args.out is not None:
        _save_features(runner, metric.features, Path(args.out))
    if args.show_dir is not None:
        meta = getattr(runner.test_dataloader.dataset, 'metainfo', None) or {}
        cameras = meta.get('cameras') or ()
        save_rank_lists(query, gallery, metric.lists, cameras, args.show_dir)
    return reid_table(metric.figures, ranking_title(metric), len(gallery))


def keep_features(runner, out: str, size: int) -> tuple[Path, ...]:
    """Write what the main process has of ``size`` features when a test is cut short.

    Returns:
        The files: those where all are to go, others beside them where some are missing, none
        without any.
    """
    metric = _metric_of(runner)
    features, path = metric.collected() or metric.features, Path(out)
    if features is None:
        return ()
    if sum(map(len, features)) < size:
        path = partial_path(path)
    _save_features(runner, features, path)
    return feature_files(path)


def _metric_of(runner) -> ReIDMetric:
    from ..reid.metric import ReIDMetric

    return next(m for m in runner.test_evaluator.metrics if isinstance(m, ReIDMetric))


def _save_features(runner, features: tuple[ReIDFeatures, ReIDFeatures], out: Path) -> None:
    from ...reid.features import model_identity, save_features
    from ..reid.preparation import describe_preparation

    model = getattr(runner.bare_model, 'module', runner.bare_model)  # test-time augmentation
    identity = model_identity(model, type(model.backbone).__name__)
    known = {'model': identity, 'preparation': describe_preparation(runner.cfg)}
    for part, path in zip(features, feature_files(out), strict=True):
        save_features(replace(part, **known), path)


def feature_files(out: str | Path) -> tuple[Path, Path]:
    """``features.npz`` to the files of the queries' and of the gallery's features."""
    path = Path(out)
    query, gallery = (path.with_stem(f'{path.stem}_{part}') for part in ('query', 'gallery'))
    return query, gallery


def reid_table(figures: ReIDResults, title: str, gallery: int) -> str:
    """The figures of a re-ID test in percent: of the ranking, and of verification."""
    values = (figures.mAP, *map(figures.rank, (1, 5, 10)), figures.mINP)
    rows = [[title, *(f'{100 * value:.2f}' for value in values)]]
    left_out = figures.num_queries - figures.num_valid_queries
    queries = f'{figures.num_queries} queries, {gallery} images in the gallery'
    if left_out:
        queries += f'; {left_out} queries without a match are left out'
    ranked = format_grid(f're-ID, percent ({queries})', HEADERS, rows)
    verified = format_grid(
        'pairs of the same person accepted, percent, by share of other pairs accepted (ROC)',
        ('', *(f'{100 * rate:g} %' for rate in figures.roc)),
        [[title, *(f'{100 * share:.2f}' for share in figures.roc.values())]],
    )
    return f'{ranked}\n{verified}'


def ranking_title(metric: ReIDMetric) -> str:
    """What the ranking was made by."""
    options = metric.options
    parts = [f'{options["distance"]} distance']
    if options['expansion'] is not None:
        parts.append('expanded queries')
    if options['rerank'] is not None:
        parts.append('re-ranked')
    return ', '.join(parts)


def save_rank_lists(
    query: ReIDFeatures,
    gallery: ReIDFeatures,
    lists: RankLists,
    cameras: Sequence[str],
    folder: str | Path,
) -> list[Path]:
    """Draw what was found for some queries into ``folder/<query>_<file>.png``; gives the files.

    ``cameras``: names by camera id, where they are known.
    """
    from ...visualization.rank_lists import Shown, caption, save_rank_list

    files = []
    for row, places, values in zip(lists.rows, lists.indices, lists.distances, strict=True):
        person = query.pids[row]
        asked_for = Shown(query.paths[row], caption(person, query.camids[row], cameras))
        ranked = [
            Shown(
                gallery.paths[i],
                [*caption(gallery.pids[i], gallery.camids[i], cameras), f'{value:.3f}'],
                bool(gallery.pids[i] == person),
            )
            for i, value in zip(places, values, strict=True)
            if i >= 0
        ]
        files.append(Path(folder) / f'{row:06d}_{Path(query.paths[row]).stem}.png')
        save_rank_list(note_drawn(files[-1]), asked_for, ranked)
    return files
