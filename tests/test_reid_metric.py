"""The evaluation as a metric: what it takes, its figures, and several processes."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.openmm.reid.metric import ReIDMetric
from effvit_mm.registry import METRICS
from effvit_mm.reid.ranking import evaluate, nearest
from effvit_mm.reid.reranking import Reranking

QUERIES, IMAGES, WIDTH = 9, 41, 6


def make_samples() -> list[DataSample]:
    """What a model gives for queries, then gallery: clusters that overlap, some junk."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(5, WIDTH, generator=generator)
    samples = []
    for index in range(IMAGES):
        person = int(torch.randint(5, (), generator=generator))
        junk = index >= QUERIES and index % 11 == 0
        noise = torch.randn(WIDTH, generator=generator)
        sample = DataSample(
            metainfo={
                'pid': -1 if junk else person,
                'camid': int(torch.randint(3, (), generator=generator)),
                'subset': 'query' if index < QUERIES else 'gallery',
                'img_path': f'{index:02d}.jpg',
                'sample_idx': index,
            }
        )
        sample.feature = centres[person] + noise
        samples.append(sample)
    return samples


def run(samples: list[DataSample], size: int = IMAGES, **options) -> tuple[dict, ReIDMetric]:
    """Evaluate as mmengine's loops do, in batches of 4."""
    evaluator = Evaluator({'type': 'effvit_mm.ReIDMetric', **options})
    for start in range(0, len(samples), 4):
        evaluator.process(samples[start : start + 4])
    return evaluator.evaluate(size), evaluator.metrics[0]


def test_figures_are_those_of_the_ranking_in_percent() -> None:
    metrics, metric = run(make_samples())
    query, gallery = metric.features
    assert (len(query), len(gallery)) == (QUERIES, IMAGES - QUERIES)
    assert list(query.paths) == [f'{i:02d}.jpg' for i in range(QUERIES)]
    figures = evaluate(query, gallery)
    assert metrics == {
        'reid/mAP': round(100 * figures.mAP, 2),
        'reid/rank_1': round(100 * figures.rank(1), 2),
        'reid/rank_5': round(100 * figures.rank(5), 2),
        'reid/rank_10': round(100 * figures.rank(10), 2),
        'reid/mINP': round(100 * figures.mINP, 2),
    }
    assert 20 < metrics['reid/mAP'] < 99
    assert metric.figures.mAP == figures.mAP


def test_options_reach_the_ranking() -> None:
    samples = make_samples()
    plain = run(samples)[0]
    for options in (
        {'rerank': {'k1': 5, 'k2': 2, 'lambda_value': 0.3}},
        {'query_expansion': {'k': 3}},
        {'distance': 'euclidean'},
    ):
        assert run(samples, **options)[0]['reid/mAP'] != plain['reid/mAP']
    single = run(samples, cuhk03=True, prefix='single')[0]
    assert single['single/mAP'] == plain['reid/mAP']
    assert single['single/rank_1'] != plain['reid/rank_1']


@pytest.mark.parametrize('rerank', [None, {'k1': 5, 'k2': 2}])
def test_rank_lists_are_the_first_items_of_the_ranking(rerank: dict | None) -> None:
    samples = make_samples()
    metrics, metric = run(samples, rerank=rerank, num_lists=3)
    assert metrics == run(samples, rerank=rerank)[0]
    settings = None if rerank is None else Reranking(**rerank)
    indices, distances = nearest(*metric.features, 10, rerank=settings)
    chosen = [0, 4, 8]
    assert list(metric.lists.rows) == chosen
    np.testing.assert_array_equal(metric.lists.indices, indices[chosen])
    np.testing.assert_array_equal(metric.lists.distances, distances[chosen])
    assert len(run(samples, num_lists=50)[1].lists.indices) == QUERIES


def test_order_and_repeats_of_samples_do_not_matter() -> None:
    samples = make_samples()
    expected = run(samples)[0]
    mixed = [samples[i] for i in np.random.default_rng(0).permutation(IMAGES)]
    assert run([*mixed, *samples[:3], samples[20]])[0] == expected
    with pytest.raises(DataError, match=r'40 different images were evaluated, .* has 41'):
        run([*samples[:-1], *samples[:5]])
    with pytest.raises(DataError, match='not a single image'):
        run([])


def evaluate_in_a_group(rank: int, world: int, interleaved: bool, store: str, results) -> None:
    torch.distributed.init_process_group('gloo', f'file://{store}', rank=rank, world_size=world)
    samples = make_samples()
    if interleaved:  # as DefaultSampler and DistributedSampler do, padded from the beginning
        share = math.ceil(IMAGES / world)
        order = [*range(IMAGES), *range(share * world - IMAGES)][rank::world]
    else:  # pieces in a row, of two lengths, the last with an image of the first
        order = np.array_split(np.arange(IMAGES), world)[rank].tolist() + [0] * (rank == world - 1)
    found, metric = run([samples[i] for i in order])
    results.put((rank, found, metric.features is not None))


@pytest.mark.parametrize(('world', 'interleaved'), [(2, True), (2, False), (3, True)])
def test_several_processes_give_the_figures_of_one(
    world: int, interleaved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # mmengine puts the parts into the current folder
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    store = str(tmp_path / 'store')
    processes = [
        context.Process(target=evaluate_in_a_group, args=(r, world, interleaved, store, results))
        for r in range(world)
    ]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    expected = run(make_samples())[0]
    assert [figures for _, figures, _ in found] == [expected] * world
    assert [kept for *_, kept in found] == [True] + [False] * (world - 1)


def test_wrong_arguments_and_samples() -> None:
    for options, message in (
        ({'distance': 'l2'}, "distance='l2': choose from cosine, euclidean"),
        ({'max_rank': 5}, 'max_rank=5: must be 10 or more'),
        ({'num_lists': -1}, 'num_lists=-1: must be 0 or more'),
        ({'rerank': {'k': 20}}, "rerank: no option 'k'; it has k1, k2, lambda_value"),
        ({'rerank': {'k1': 0}}, 'rerank: k1=0'),
        ({'rerank': {'lambda_value': 1.5}}, 'rerank: lambda_value=1.5'),
        ({'query_expansion': {'k': 0}}, 'query_expansion: k=0'),
        ({'query_expansion': {'alpha': -1.0}}, 'query_expansion: alpha=-1.0'),
    ):
        with pytest.raises(ConfigError, match=message):
            METRICS.build({'type': 'effvit_mm.ReIDMetric', **options})

    samples = make_samples()
    samples[30].feature[2] = math.nan
    with pytest.raises(DataError, match=r'gallery features: feature 2 of image .* \(30.jpg\) is n'):
        run(samples)
    samples = make_samples()
    samples[4].set_metainfo({'subset': 'train'})
    with pytest.raises(DataError, match=r"04.jpg: subset 'train' cannot be evaluated"):
        run(samples)
    samples = make_samples()
    del samples[4].feature
    with pytest.raises(DataError, match='a data sample has no feature; the features come from'):
        run(samples)


def test_queries_without_a_match_are_counted() -> None:
    samples = make_samples()
    expected = run(samples)[0]
    alone = samples[0].clone()
    alone.set_metainfo({'pid': 77, 'sample_idx': IMAGES})
    _, metric = run([*samples, alone], IMAGES + 1)
    assert (metric.figures.num_queries, metric.figures.num_valid_queries) == (10, 9)
    assert round(100 * metric.figures.mAP, 2) == expected['reid/mAP']
