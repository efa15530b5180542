"""Re-ranking equals torchreid's; query expansion equals its definition."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from benchmarks.measure.memory import peak_bytes, reset_peak, resident_bytes
from effvit_mm.errors import ConfigError
from effvit_mm.reid import distances, reranking
from effvit_mm.reid.expansion import QueryExpansion
from effvit_mm.reid.reranking import Reranking, rerank_blocks

with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    from torchreid.reid.metrics import compute_distance_matrix
    from torchreid.reid.utils import re_ranking


def clustered(count: int, people: int, seed: int, spread: float = 0.7, width: int = 32):
    """Features around the people's centres."""
    centres = np.random.default_rng(5).standard_normal((people, width))
    rng = np.random.default_rng(seed)
    features = centres[rng.integers(0, people, count)]
    return (features + spread * rng.standard_normal((count, width))).astype(np.float32)


def reranked(query, gallery, distance: str = 'cosine', **settings) -> np.ndarray:
    blocks = rerank_blocks(query, gallery, distance, Reranking(**settings))
    return np.concatenate([block.copy() for _, block in blocks])


def torchreid(query, gallery, distance: str = 'cosine', **settings) -> np.ndarray:
    def between(left, right):
        return compute_distance_matrix(*map(torch.from_numpy, (left, right)), distance).numpy()

    matrices = between(query, gallery), between(query, query), between(gallery, gallery)
    return re_ranking(*matrices, **settings)


CASES = {
    'random': (clustered(20, 1, 1, spread=1), clustered(90, 1, 2, spread=1), {}),
    'clustered': (clustered(30, 8, 1), clustered(150, 8, 2), {}),
    'tight clusters': (clustered(20, 12, 1, 0.1), clustered(120, 12, 2, 0.1), {}),
    'loose clusters': (clustered(20, 30, 1, 1.5), clustered(160, 30, 2, 1.5), {}),
    'other settings': (
        clustered(12, 5, 1),
        clustered(70, 5, 2),
        {'k1': 7, 'k2': 3, 'lambda_value': 0.6},
    ),
    'odd k1, rounded to even': (clustered(12, 5, 1), clustered(70, 5, 2), {'k1': 5, 'k2': 4}),
    'no averaging': (clustered(12, 5, 1), clustered(70, 5, 2), {'k2': 1}),
    'k2 above k1': (clustered(12, 5, 1), clustered(70, 5, 2), {'k1': 4, 'k2': 9}),
    'only the sets count': (clustered(12, 5, 1), clustered(70, 5, 2), {'lambda_value': 0.0}),
    'only the distances count': (clustered(9, 5, 1), clustered(60, 5, 2), {'lambda_value': 1.0}),
    'fewer images than k1': (clustered(3, 4, 1), clustered(9, 4, 2), {}),
    'fewer images than k2': (clustered(1, 4, 1), clustered(3, 4, 2), {}),
    'one query, one image': (clustered(1, 4, 1), clustered(1, 4, 2), {}),
    'more queries than gallery': (clustered(60, 6, 1), clustered(5, 6, 2), {}),
}


@pytest.mark.parametrize('distance', distances.DISTANCES)
@pytest.mark.parametrize('name', CASES)
def test_equal_to_torchreid(name: str, distance: str) -> None:
    query, gallery, settings = CASES[name]
    expected = torchreid(query, gallery, distance, **settings)
    np.testing.assert_allclose(
        reranked(query, gallery, distance, **settings), expected, rtol=0, atol=1e-5
    )
    assert expected.std() > 0 or expected.size == 1


def test_equal_whatever_the_sizes_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = clustered(33, 8, 1), clustered(140, 8, 2)
    expected = reranked(query, gallery)
    monkeypatch.setattr(reranking, 'ROWS_AT_ONCE', 11)
    monkeypatch.setattr(reranking, 'FINAL_BLOCK_BYTES', 5 * 4 * 140)
    parts = [
        (start, block.copy())
        for start, block in rerank_blocks(query, gallery, 'cosine', Reranking())
    ]
    assert [start for start, _ in parts] == list(range(0, 33, 5))
    found = np.concatenate([block for _, block in parts])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_duplicates_and_equal_features_stay_in_bounds() -> None:
    """Which of many equals are neighbours is not defined, but they stay together."""
    query, gallery = clustered(4, 4, 1, 0.01), clustered(8, 4, 2, 0.01).repeat(12, axis=0)
    values = reranked(query, gallery)
    assert ((values >= -1e-6) & (values <= 1 + 1e-6)).all()
    same = np.full((3, 8), 0.5, np.float32)
    values = reranked(same, np.full((50, 8), 0.5, np.float32))
    assert np.isfinite(values).all()


def test_memory_does_not_grow_with_the_matrix() -> None:
    """Of 9,000 images a matrix takes 324 MB; torchreid keeps five."""
    query, gallery = clustered(1000, 300, 1, width=16), clustered(8000, 300, 2, width=16)
    reranked(query[:10], gallery[:100])
    before = resident_bytes()
    reset_peak()
    for _ in rerank_blocks(query, gallery, 'cosine', Reranking()):
        pass
    assert peak_bytes() - before < 300e6


def test_settings_are_checked() -> None:
    for settings, message in (
        ({'k1': 0}, 'rerank: k1=0, must be 1 or more'),
        ({'k2': 0}, 'rerank: k2=0, must be 1 or more'),
        ({'lambda_value': -0.1}, r'rerank: lambda_value=-0.1, must be in \[0, 1\]'),
    ):
        with pytest.raises(ConfigError, match=message):
            Reranking(**settings)


@pytest.mark.parametrize('alpha', [0, 3.0])
@pytest.mark.parametrize('distance', distances.DISTANCES)
def test_expansion_is_its_definition(distance: str, alpha: float) -> None:
    query, gallery = clustered(7, 5, 1), clustered(40, 5, 2)
    found = QueryExpansion(k=4, alpha=alpha)(query, gallery, distance)
    if distance == 'cosine':
        query, gallery = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (query, gallery))
    for row, own in zip(found, query, strict=True):
        near = gallery[np.argsort(((gallery - own) ** 2).sum(axis=1))[:4]]
        norms = np.linalg.norm(near, axis=1) * np.linalg.norm(own)
        weights = np.maximum(near @ own / norms, 0) ** alpha
        expected = (own + weights @ near) / (1 + weights.sum())
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_expansion_takes_the_whole_of_a_small_gallery() -> None:
    query, gallery = clustered(2, 3, 1), clustered(3, 3, 2)
    found = QueryExpansion(k=10, alpha=0)(query, gallery, 'euclidean')
    expected = (query + gallery.sum(axis=0)) / 4
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
