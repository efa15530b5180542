"""CMC, mAP, mINP and ROC: equal to torchreid's and to their definitions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import effvit_mm
from benchmarks.measure.memory import peak_bytes, reset_peak, resident_bytes
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.reid import distances, ranking
from effvit_mm.reid.expansion import QueryExpansion
from effvit_mm.reid.features import ReIDFeatures, load_features, model_identity, save_features
from effvit_mm.reid.ranking import evaluate, evaluate_distances, nearest
from effvit_mm.reid.reranking import Reranking

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # its Cython part is not there
    from torchreid.reid.metrics import compute_distance_matrix, evaluate_rank

NOBODY = -1
OTHERS = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'torchreid')
ALONE = """
import sys, types

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {others}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Missing())
package = types.ModuleType('effvit_mm')
package.__path__ = [{folder!r}]
sys.modules['effvit_mm'] = package
import effvit_mm.reid.names, effvit_mm.reid.search
from effvit_mm.reid.expansion import QueryExpansion
from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.ranking import evaluate
from effvit_mm.reid.reranking import Reranking

query = ReIDFeatures([[1, 0], [0, 1]], [7, 8], [0, 0])
gallery = ReIDFeatures([[0.9, 0.1], [0.8, 0.6], [0.1, 0.9]], [7, 8, 8], [1, 1, 1])
for options in (dict(), dict(rerank=Reranking(2, 1)), dict(expansion=QueryExpansion(1))):
    print(evaluate(query, gallery, **options).mAP)
"""


def random_case(seed: int, most: int = 40) -> tuple[np.ndarray, ...]:
    """Distances without ties and labels of a few people, so that some queries have no match."""
    rng = np.random.default_rng(seed)
    queries, items = int(rng.integers(1, most)), int(rng.integers(1, 150))
    people, cameras = int(rng.integers(1, 25)), int(rng.integers(1, 5))
    values = rng.permutation(queries * items).reshape(queries, items).astype(np.float32)
    labels = [rng.integers(0, limit, size) for limit in (people, cameras) for size in values.shape]
    q_pids, g_pids, q_camids, g_camids = labels
    return values, q_pids, g_pids, q_camids, g_camids


def plain(values, q_pids, g_pids, q_camids, g_camids, max_rank=50):
    """CMC, mAP and mINP as they are defined; of equals the first in the gallery comes first."""
    firsts, precisions, penalties = [], [], []
    for row, pid, camid in zip(values, q_pids, q_camids, strict=True):
        ranked = [
            g_pids[i] == pid
            for i in sorted(range(len(row)), key=lambda i: (row[i], i))
            if g_pids[i] != NOBODY and not (g_pids[i] == pid and g_camids[i] == camid)
        ]
        ranks = [rank for rank, match in enumerate(ranked, 1) if match]
        if ranks:
            firsts.append(ranks[0])
            precisions.append(np.mean([n / rank for n, rank in enumerate(ranks, 1)]))
            penalties.append(len(ranks) / ranks[-1])
    cmc = [np.mean([first <= k for first in firsts]) for k in range(1, max_rank + 1)]
    return np.array(cmc), np.mean(precisions), np.mean(penalties)


def torchreid(case, max_rank: int, cuhk03: bool, seed: int = 0):
    """torchreid's figures; None where it stops: no query with a match, or CMCs of two lengths."""
    np.random.seed(seed)
    try:
        return evaluate_rank(*case, max_rank=max_rank, use_metric_cuhk03=cuhk03)
    except AssertionError:
        return None
    except ValueError as error:
        assert 'inhomogeneous' in str(error) or 'broadcast' in str(error)
        return None


@pytest.mark.parametrize('cuhk03', [False, True])
def test_equal_to_torchreid_on_random_cases(cuhk03: bool) -> None:
    compared = 0
    for seed in range(300):
        case = random_case(seed, most=8 if cuhk03 else 40)  # torchreid takes its time
        expected = torchreid(case, 10, cuhk03, seed)
        if expected is None:
            continue
        found = evaluate_distances(*case, max_rank=10, cuhk03=cuhk03, seed=seed)
        length = len(expected[0])  # a single-shot gallery may have fewer people than ranks
        np.testing.assert_allclose(found.cmc[:length], expected[0], atol=1e-6)
        assert found.mAP == pytest.approx(expected[1], abs=1e-6)
        compared += 1
    assert compared >= 200


def test_no_valid_query_is_an_error_where_torchreid_asserts() -> None:
    seen = 0
    for seed in range(300):
        values, q_pids, g_pids, q_camids, g_camids = random_case(seed)
        if all(
            not ((g_pids == pid) & (g_camids != camid)).any()
            for pid, camid in zip(q_pids, q_camids, strict=True)
        ):
            seen += 1
            with pytest.raises(DataError, match=f'none of the {len(q_pids)} queries has a match'):
                evaluate_distances(values, q_pids, g_pids, q_camids, g_camids)
    assert seen > 5


def test_all_figures_are_the_definitions_with_ties_and_junk() -> None:
    for seed in range(40):
        values, q_pids, g_pids, q_camids, g_camids = random_case(seed + 1000)
        values = np.floor(values / values.size * 8)  # eight different distances
        g_pids = np.where(np.arange(len(g_pids)) % 7 == 3, NOBODY, g_pids)
        case = values, q_pids, g_pids, q_camids, g_camids
        with np.errstate(all='ignore'), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            cmc, precision, penalty = plain(*case)
        if np.isnan(precision):
            continue
        found = evaluate_distances(*case)
        np.testing.assert_allclose(found.cmc, cmc[: len(found.cmc)], atol=1e-12)
        assert found.mAP == pytest.approx(precision, abs=1e-12)
        assert found.mINP == pytest.approx(penalty, abs=1e-12)


@pytest.mark.parametrize('ties', [False, True])
def test_many_matches_are_ranked_as_few_are(ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    values = rng.random((6, 400), dtype=np.float32)
    values = np.floor(values * 5) if ties else values
    case = (
        values,
        np.zeros(6, int),
        rng.integers(0, 2, 400),
        np.zeros(6, int),
        rng.integers(0, 3, 400),
    )
    found = evaluate_distances(*case)
    cmc, precision, penalty = plain(*case)
    np.testing.assert_allclose(found.cmc, cmc, atol=1e-12)
    assert (found.mAP, found.mINP) == pytest.approx((precision, penalty), abs=1e-12)
    monkeypatch.setattr(ranking, 'COUNTED_MATCHES', 10**6)
    counted = evaluate_distances(*case)
    assert (counted.mAP, counted.mINP) == (found.mAP, found.mINP)


def test_degenerate_galleries() -> None:
    one = evaluate_distances(np.zeros((1, 1)), [3], [3], [0], [1])
    assert (one.cmc.tolist(), one.mAP, one.mINP) == ([1.0], 1.0, 1.0)

    # The second query's person is seen by its own camera alone, the third's nowhere.
    values = np.array([[0.3, 0.1, 0.2], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    found = evaluate_distances(values, [1, 2, 9], [1, 2, 5], [0, 0, 0], [1, 0, 0])
    assert (found.num_queries, found.num_valid_queries) == (3, 1)
    assert found.mAP == found.mINP == pytest.approx(1 / 3)
    assert found.cmc.tolist() == [0, 0, 1]
    assert found.rank(50) == 1

    junk = np.full(3, NOBODY)
    with pytest.raises(DataError, match='none of the 3 queries has a match'):
        evaluate_distances(values, junk, junk, [0, 0, 0], [1, 1, 1])


def test_duplicates_are_ranked_by_their_place_in_the_gallery() -> None:
    case = np.full((1, 4), 0.5), [1], np.array([2, 1, 2, 1]), [0], [1, 1, 1, 1]
    found = evaluate_distances(*case)
    assert found.cmc.tolist() == [0, 1, 1, 1]
    assert found.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found.mINP == pytest.approx(2 / 4)


def plain_roc(genuine: np.ndarray, impostors: np.ndarray, far: float) -> float:
    """The best share of matching pairs over all thresholds that keep to the rate."""
    thresholds = [*np.unique(np.concatenate([genuine, impostors])), np.inf]
    allowed = [t for t in thresholds if (impostors < t).mean() <= far]
    return max((genuine < t).mean() for t in allowed)


@pytest.mark.parametrize('ties', [False, True])
def test_roc_is_its_definition_however_few_distances_are_kept(ties: bool) -> None:
    rng = np.random.default_rng(4)
    values = rng.random((30, 100), dtype=np.float32)
    values = np.floor(values * 20) / 20 if ties else values
    labels = [rng.integers(0, limit, size) for limit in (5, 3) for size in (30, 100)]
    q_pids, g_pids, q_camids, g_camids = labels
    same = q_pids[:, None] == g_pids
    elsewhere = q_camids[:, None] != g_camids
    fars = (0.001, 0.01, 0.07, 0.29, 1.0)
    for chosen in (fars, fars[:1], fars[:2], ()):
        found = evaluate_distances(values, q_pids, g_pids, q_camids, g_camids, fars=chosen)
        assert tuple(found.roc) == chosen
        for far in chosen:
            expected = plain_roc(values[same & elsewhere], values[~same], far)
            assert found.roc[far] == pytest.approx(expected, abs=1e-12)


def people(count: int, width: int, seed: int, spread: float = 0.8) -> ReIDFeatures:
    """Features in clusters: ten people, three cameras."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((10, width))
    pids = rng.integers(0, 10, count)
    features = centres[pids] + spread * rng.standard_normal((count, width))
    paths = [f'{seed}_{i}.jpg' for i in range(count)]
    return ReIDFeatures(features, pids, rng.integers(0, 3, count), paths)


@pytest.mark.parametrize('distance', distances.DISTANCES)
def test_features_are_compared_as_torchreid_does(distance: str) -> None:
    query, gallery = people(33, 24, 1), people(150, 24, 2)
    tensors = torch.from_numpy(query.features), torch.from_numpy(gallery.features)
    expected = compute_distance_matrix(*tensors, distance).numpy()
    blocks = distances.distance_blocks(query.features, gallery.features, distance, 7 * 4 * 150)
    parts = [(start, block.copy()) for start, block in blocks]
    assert [start for start, _ in parts] == [0, 7, 14, 21, 28]
    np.testing.assert_allclose(
        np.concatenate([b for _, b in parts]), expected, rtol=2e-6, atol=2e-6
    )
    labels = query.pids, gallery.pids, query.camids, gallery.camids
    cmc, precision = evaluate_rank(expected, *labels)
    found = evaluate(query, gallery, distance)
    np.testing.assert_allclose(found.cmc, cmc, atol=1e-6)
    assert found.mAP == pytest.approx(precision, abs=1e-6)
    assert 0.2 < found.mAP < 0.99


def test_junk_does_not_count_and_is_no_neighbour() -> None:
    query, gallery = people(20, 16, 1), people(90, 16, 2)
    junk = ReIDFeatures(query.features[:5], np.full(5, NOBODY), np.full(5, 9))
    mixed = ReIDFeatures(
        *(np.concatenate([getattr(f, n) for f in (junk, gallery)]) for n in ('features', 'pids')),
        np.concatenate([junk.camids, gallery.camids]),
    )
    options = {'rerank': Reranking(k1=5, k2=2), 'expansion': QueryExpansion(k=3)}
    for chosen in ({}, options):
        expected, found = evaluate(query, gallery, **chosen), evaluate(query, mixed, **chosen)
        assert (found.mAP, found.mINP) == (expected.mAP, expected.mINP)
        before, _ = nearest(query, gallery, 4, **chosen)
        after, _ = nearest(query, mixed, 4, **chosen)
        assert (after == before + 5).all()


def test_nearest_is_what_is_judged() -> None:
    query, gallery = people(25, 8, 3, spread=2), people(60, 8, 4, spread=2)
    indices, values = nearest(query, gallery, 60)
    assert (np.diff(np.where(np.isfinite(values), values, 1e9)) >= 0).all()
    hits = gallery.pids[indices] == query.pids[:, None]
    shown = indices >= 0
    left_out = hits & (gallery.camids[indices] == query.camids[:, None])
    assert not (left_out & shown).any()
    valid = (hits & shown).any(axis=1)
    result = evaluate(query, gallery)
    for k in (1, 5, 10):
        assert (hits & shown)[valid, :k].any(axis=1).mean() == pytest.approx(result.rank(k))


def test_memory_does_not_grow_with_the_matrix() -> None:
    """2,000 x 60,000 distances take 480 MB, their order another 960."""
    rng = np.random.default_rng(0)
    query, gallery = (
        ReIDFeatures(
            rng.standard_normal((n, 8), dtype=np.float32),
            rng.integers(0, 3000, n),
            rng.integers(0, 6, n),
        )
        for n in (2000, 60000)
    )
    evaluate(query[:2], gallery)
    before = resident_bytes()
    reset_peak()
    evaluate(query, gallery)
    assert peak_bytes() - before < 300e6


def test_wrong_arguments() -> None:
    query, gallery = people(5, 8, 1), people(9, 8, 2)
    with pytest.raises(ConfigError, match="distance='l1': choose from cosine, euclidean"):
        evaluate(query, gallery, 'l1')
    with pytest.raises(ConfigError, match='max_rank=0'):
        evaluate(query, gallery, max_rank=0)
    with pytest.raises(ConfigError, match=r'fars=\(0.0,\)'):
        evaluate(query, gallery, fars=(0.0,))
    with pytest.raises(DataError, match='width 7, features of width 8'):
        evaluate(query, people(9, 7, 2))
    with pytest.raises(DataError, match='there are no gallery items'):
        evaluate(query, gallery[:0])
    with pytest.raises(DataError, match='q_camids has 4 entries'):
        evaluate_distances(np.zeros((5, 9)), query.pids, gallery.pids, [0] * 4, gallery.camids)
    values = np.zeros((5, 9))
    values[2, 3] = np.nan
    labels = np.zeros(5, int), np.zeros(9, int), np.zeros(5, int), np.ones(9, int)
    with pytest.raises(DataError, match='query 2 has distances that are not finite'):
        evaluate_distances(values, *labels)


@pytest.mark.parametrize('suffix', ['.npz', '.parquet'])
class TestFiles:
    def test_comes_back_as_it_went(self, suffix: str, tmp_path) -> None:
        features = people(11, 5, 1)
        features.model = 'PSLT-0123456789ab'
        for part in (features, ReIDFeatures(features.features, features.pids, features.camids)):
            path = tmp_path / 'folder' / f'query{suffix}'
            save_features(part, path)
            found = load_features(path, model=part.model, width=5)
            assert found.features.dtype == np.float32
            for name in ('features', 'pids', 'camids'):
                np.testing.assert_array_equal(getattr(found, name), getattr(part, name))
            assert list(found.paths) == list(part.paths)
            assert found.model == part.model
            assert [p.name for p in path.parent.iterdir()] == [path.name]
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                assert evaluate(found, found).mAP == evaluate(part, part).mAP

    def test_refuses_another_model_and_width(self, suffix: str, tmp_path) -> None:
        features = people(11, 5, 1)
        features.model = 'PSLT-0123456789ab'
        path = tmp_path / f'x{suffix}'
        save_features(features, path)
        name = f'feature file {path}'
        with pytest.raises(DataError, match=f'{name} .* model PSLT-0123456789ab, not of LeViT-1'):
            load_features(path, model='LeViT-1')
        with pytest.raises(DataError, match=f'{name} .* width 5, expected 512'):
            load_features(path, width=512)
        other = people(4, 5, 2)
        other.model = 'LeViT-1'
        with pytest.raises(DataError, match=f'{name} has .* PSLT-0123456789ab, features of LeViT'):
            evaluate(other, load_features(path))

    def test_a_file_cut_short_at_any_place_is_named(self, suffix: str, tmp_path) -> None:
        whole, path = tmp_path / f'whole{suffix}', tmp_path / f'x{suffix}'
        save_features(people(40, 6, 1), whole)
        content = whole.read_bytes()
        for share in (0, 0.1, 0.5, 0.9, 0.999):
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(DataError, match=f'feature file {path} cannot be read'):
                load_features(path)

    def test_values_that_are_no_numbers(self, suffix: str, tmp_path, monkeypatch) -> None:
        features = people(20, 6, 1)
        features.features[7, 2] = np.nan
        features.features[9, 1] = np.inf
        path = tmp_path / f'x{suffix}'
        with pytest.raises(DataError, match=r'feature 2 of image 7 \(1_7.jpg\) is nan; 2 of 20'):
            save_features(features, path)
        assert not path.exists()
        with pytest.raises(DataError, match='is nan; 2 of 20'):
            evaluate(people(3, 6, 2), features)
        with monkeypatch.context() as patch:
            patch.setattr(ReIDFeatures, 'check_finite', lambda self: None)
            save_features(features, path)
        with pytest.raises(DataError, match=f'{path}: feature 2 of image 7 .* is nan'):
            load_features(path)

    def test_files_of_others(self, suffix: str, tmp_path) -> None:
        import pyarrow

        path = tmp_path / f'x{suffix}'
        with pytest.raises(DataError, match='no such file'):
            load_features(path)
        if suffix == '.npz':
            np.savez(path, features=np.zeros((2, 3)), pids=[1, 2])
            message = 'has no header, camids, paths'
        else:
            pyarrow.parquet.write_table(pyarrow.table({'pid': [1, 2]}), path)
            message = 'was not written by effvit_mm'
        with pytest.raises(DataError, match=message):
            load_features(path)


def test_a_file_of_other_kinds_is_named(tmp_path) -> None:
    """Nothing becomes another value on the way: no half persons, no real parts."""
    import pyarrow as pa

    path = tmp_path / 'x.npz'
    save_features(people(4, 6, 1), path)
    with np.load(path) as content:
        parts = dict(content)
    for name, values, message in (
        ('pids', parts['pids'] + 0.5, 'has pids of float64'),
        ('pids', parts['pids'].astype('U'), 'has pids of <U'),
        ('features', parts['features'].astype(np.complex64), 'has features of complex64'),
        ('features', parts['features'][None], 'have shape'),
        ('features', parts['features'].astype('U'), 'has features of <U'),
        ('paths', np.array('x'), 'paths has shape'),
    ):
        np.savez(path, **{**parts, name: values})
        with pytest.raises(DataError, match=rf'{path}.* {message}'):
            load_features(path)
    path = tmp_path / 'x.parquet'
    save_features(people(4, 6, 1), path)
    table = pa.parquet.read_table(path)
    for name, column, message in (
        ('pid', pa.array([1, None, 2, 3] * 6), 'has pids of float64'),
        ('camid', pa.array(['a'] * 24), 'has camids of object'),
        ('feature', pa.array([1.0] * 24), 'cannot be read'),
    ):
        place = table.column_names.index(name)
        pa.parquet.write_table(table.set_column(place, name, column[: table.num_rows]), path)
        with pytest.raises(DataError, match=rf'{path}.* {message}'):
            load_features(path)


def test_a_file_that_would_run_code_is_not_unpickled(tmp_path) -> None:
    path = tmp_path / 'x.npz'
    names = ('features', 'pids', 'camids', 'paths')
    np.savez(path, header=np.array([{'kind': 1}], dtype=object), **{n: [1] for n in names})
    with pytest.raises(DataError, match=f'{path} cannot be read'):
        load_features(path)
    with pytest.raises(ConfigError, match=r'x.pkl: the suffix must be one of .npz, .parquet'):
        load_features(tmp_path / 'x.pkl')


def test_identity_is_of_the_weights() -> None:
    torch.manual_seed(0)
    first, second = torch.nn.BatchNorm1d(4), torch.nn.BatchNorm1d(4)
    assert model_identity(first) == model_identity(second)
    assert model_identity(first).startswith('BatchNorm1d-')
    second.running_var[2] += 1e-6
    assert model_identity(first) != model_identity(second)


def test_ranking_without_openmmlab_and_torchreid(pythons):
    done = pythons.run('-c', ALONE.format(others=OTHERS, folder=effvit_mm.__path__[0]))
    assert done.returncode == 0, done.stderr
    assert list(map(float, done.stdout.split())) == [1, 1, 1]
