"""Search in a gallery: finds what the ranking finds, and comes back from a file as it was."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import faiss
import numpy as np
import pytest

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.reid.distances import DISTANCES
from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.names import label_files
from effvit_mm.reid.ranking import nearest
from effvit_mm.reid.search import Gallery
from effvit_mm.reid.vector_index import INDICES, ExactIndex

ROOT = Path(__file__).parents[1]

WIDTH, MODEL = 24, 'PSLT-0123456789ab'


def people(count: int, seed: int, first: int = 0) -> ReIDFeatures:
    """Features of forty people; an image's camera is one that no other has."""
    centres = np.random.default_rng(7).standard_normal((40, WIDTH))
    rng = np.random.default_rng(seed)
    pids = rng.integers(0, 40, count)
    features = centres[pids] + 0.8 * rng.standard_normal((count, WIDTH))
    cameras = np.arange(count) + 1000 * seed
    return ReIDFeatures(features, pids, cameras, [f'{seed}/{i}.jpg' for i in range(count)], MODEL)


def filled(features: ReIDFeatures, index: str = 'exact', distance: str = 'cosine') -> Gallery:
    """A gallery to which the features were added in chunks."""
    gallery = Gallery(features.width, MODEL, index=index, distance=distance)
    for start in range(0, len(features), 170):
        gallery.add(features[start : start + 170])
    return gallery


@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('index', INDICES)
def test_finds_what_the_ranking_finds(index: str, distance: str) -> None:
    query, images = people(60, 1), people(1000, 2)
    gallery = filled(images, index, distance)
    assert len(gallery) == 1000
    expected, values = nearest(query, images, 10, distance)
    found, distances = gallery.search(query, 10)
    if index == 'exact':
        assert (found == expected).all()
        np.testing.assert_allclose(distances, values, rtol=1e-4, atol=1e-5)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(found, expected, strict=True)]
    assert np.mean(shared) > 0.97
    hits = gallery.pids[found[:, 0]] == query.pids
    assert hits.mean() > 0.8


def test_names_and_labels_stay_with_the_features() -> None:
    images = people(400, 2)
    gallery = filled(images)
    found, distances = gallery.search(images[100:130], 1)
    assert found[:, 0].tolist() == list(range(100, 130))
    np.testing.assert_allclose(distances, 0, atol=1e-5)
    assert [gallery.paths[i] for i in found[:, 0]] == images.paths[100:130]
    np.testing.assert_array_equal(gallery.pids, images.pids)
    np.testing.assert_array_equal(gallery.camids, images.camids)


def test_a_short_gallery_is_filled_up() -> None:
    gallery = filled(people(3, 2))
    found, distances = gallery.search(people(2, 1), 5)
    assert (np.sort(found[:, :3]) == [0, 1, 2]).all()
    assert (found[:, 3:] == -1).all()
    assert np.isinf(distances[:, 3:]).all() and np.isfinite(distances[:, :3]).all()
    with pytest.raises(DataError, match='the gallery is empty'):
        Gallery(WIDTH).search(people(1, 1))


@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('index', INDICES)
def test_saved_and_loaded_is_the_same_and_can_grow(
    index: str, distance: str, tmp_path: Path
) -> None:
    query, images, more = people(20, 1), people(500, 2), people(100, 3)
    gallery = filled(images, index, distance)
    path = tmp_path / 'galleries' / 'street.gallery'
    gallery.save(path)
    assert [p.name for p in path.parent.iterdir()] == ['street.gallery']
    loaded = Gallery.load(path, model=MODEL, width=WIDTH)
    for name in ('width', 'model', 'index', 'distance', 'paths'):
        assert getattr(loaded, name) == getattr(gallery, name)
    for one, two in zip(gallery.search(query), loaded.search(query), strict=True):
        np.testing.assert_array_equal(one, two)
    loaded.add(more)
    assert len(loaded) == 600 and len(loaded.pids) == 600
    found, _ = loaded.search(more, 1)
    assert (found[:, 0] == np.arange(500, 600)).mean() > 0.97


def test_an_empty_gallery_can_be_saved(tmp_path: Path) -> None:
    Gallery(WIDTH).save(tmp_path / 'x.gallery')
    gallery = Gallery.load(tmp_path / 'x.gallery')
    gallery.add(people(4, 2))
    assert gallery.search(people(1, 1), 1)[0].shape == (1, 1)


def test_features_of_others_are_refused_and_nothing_is_added() -> None:
    gallery = filled(people(9, 2))
    other = people(3, 1)
    other.model, other.source = 'LeViT-1', 'feature file x.npz'
    narrow = ReIDFeatures(np.ones((2, 7)), [1, 2], [0, 0])
    broken = people(3, 1)
    broken.features[1, 5] = np.nan
    for features, message in (
        (other, f'feature file x.npz has features of the model LeViT-1, the gallery of {MODEL}'),
        (narrow, f'width 7, the gallery of width {WIDTH}'),
        (broken, r'feature 5 of image 1 \(1/1.jpg\) is nan'),
    ):
        for action in (gallery.add, gallery.search):
            with pytest.raises(DataError, match=message):
                action(features)
    assert len(gallery) == len(gallery.pids) == 9
    assert gallery.search(people(1, 1), 10)[0][0, 9] == -1


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'x.gallery'
    filled(people(20, 2)).save(path)
    with pytest.raises(DataError, match=f'{path} has features of the model {MODEL}, not of L-1'):
        Gallery.load(path, model='L-1')
    with pytest.raises(DataError, match=f'{path} has features of width {WIDTH}, expected 512'):
        Gallery.load(path, width=512)
    with pytest.raises(DataError, match=r'missing.gallery: no such file'):
        Gallery.load(tmp_path / 'missing.gallery')
    other = tmp_path / 'features.npz'
    np.savez(other, features=np.zeros(3))
    with pytest.raises(DataError, match=f'{other} was not written by effvit_mm'):
        Gallery.load(other)


@pytest.mark.parametrize('index', INDICES)
def test_a_damaged_file_is_named(index: str, tmp_path: Path) -> None:
    path = tmp_path / 'x.gallery'
    filled(people(50, 2), index).save(path)
    content = path.read_bytes()
    for share in (0, 0.01, 0.5, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match=f'gallery {path} cannot be read'):
            Gallery.load(path)
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    with pytest.raises(
        DataError, match=f'{path} is damaged: {INDICES[index].PART} has a wrong checksum'
    ):
        Gallery.load(path)


def rewrite(path: Path, name: str, content: bytes) -> None:
    """Replace a part of a gallery's file, with a right checksum."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for entry, old in parts.items():
            archive.writestr(entry, content if entry == name else old)


def array(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    path = tmp_path / 'x.gallery'
    labels = io.BytesIO()
    np.save(labels, np.zeros((2, 3), np.int64))
    flat = faiss.serialize_index(faiss.IndexFlatIP(WIDTH)).tobytes()
    objects = io.BytesIO()
    np.save(objects, np.array([{}, {}], dtype=object))
    filled(people(50, 2), 'approximate').save(tmp_path / 'y.gallery')
    with zipfile.ZipFile(tmp_path / 'y.gallery') as archive:
        approximate = archive.read('index.faiss')
    for name, content, message in (
        ('paths.json', json.dumps(['a']).encode(), '50 images, 1 names, 50 labels'),
        ('labels.npy', labels.getvalue(), '50 images, 50 names, 3 labels'),
        ('labels.npy', objects.getvalue(), 'allow_pickle=False'),
        ('rows.npy', array(np.arange(49)), '49 images, 50 names'),
        ('rows.npy', array(np.arange(50) // 2), '50 labels, 50 vectors'),
        ('rows.npy', array(np.arange(50) - 1), '50 labels, 50 vectors'),
        ('vectors.npy', array(np.zeros((50, 7), np.float32)), r'float32 \(50, 7\), not \(N, 24\)'),
        ('vectors.npy', array(np.zeros((49, 24), np.float32)), '50 labels, 49 vectors'),
        ('vectors.npy', approximate, 'cannot be read'),
        ('index.faiss', b'IxF2' + b'\xff' * 60, 'cannot be read'),
        ('index.faiss', flat, 'IndexFlatIP and width 24'),
    ):
        filled(people(50, 2), 'approximate' if name == 'index.faiss' else 'exact').save(path)
        rewrite(path, name, content)
        with pytest.raises(DataError, match=message):
            Gallery.load(path)


def test_parts_of_other_kinds(tmp_path: Path) -> None:
    """With right checksums, as a fault of another program leaves them."""
    path = tmp_path / 'x.gallery'
    header = {'kind': 'effvit_mm re-ID gallery', 'count': 50, 'width': WIDTH, 'model': MODEL}
    header |= {'index': 'exact', 'distance': 'cosine'}
    for name, content, message in (
        ('paths.json', b'3', 'paths.json is no list'),
        ('paths.json', json.dumps([1] * 50).encode(), 'paths.json is no list'),
        ('columns.json', b'[1]', 'columns.json has no lists'),
        ('columns.json', b'{"time": 3}', 'columns.json has no lists'),
        ('labels.npy', array(np.zeros((2, 50))), 'labels.npy has float64'),
        ('labels.npy', array(np.zeros(50, np.int64)), 'labels.npy has int64'),
        ('rows.npy', array(np.arange(50).astype('U')), 'rows.npy has <U'),
        ('header.json', json.dumps(header | {'width': 'x'}).encode(), "has width='x'"),
        ('header.json', json.dumps(header | {'width': -1}).encode(), 'has width=-1'),
        ('header.json', json.dumps(header | {'index': []}).encode(), r'has index=\[\]'),
        ('header.json', json.dumps(header | {'distance': 'l2'}).encode(), "has distance='l2'"),
        ('header.json', json.dumps(header | {'count': []}).encode(), 'cannot be read'),
    ):
        filled(people(50, 2)).save(path)
        rewrite(path, name, content)
        with pytest.raises(DataError, match=f'gallery {path} .*{message}'):
            Gallery.load(path)


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match="index='ivf': choose from exact, approximate"):
        Gallery(8, index='ivf')
    with pytest.raises(ConfigError, match="distance='l2'"):
        Gallery(8, distance='l2')
    with pytest.raises(ConfigError, match='width=0'):
        Gallery(0)
    with pytest.raises(ConfigError, match='top=0'):
        filled(people(5, 2)).search(people(1, 1), 0)


def test_without_faiss_only_approximate_search_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(people(30, 2), 'approximate').save(tmp_path / 'x.gallery')
    monkeypatch.setitem(sys.modules, 'faiss', None)
    with pytest.raises(ConfigError, match=r"pip install faiss-cpu.*or take index='exact'"):
        Gallery(8, index='approximate')
    with pytest.raises(ConfigError, match='pip install faiss-cpu'):
        Gallery.load(tmp_path / 'x.gallery')
    exact = filled(people(30, 2), 'exact')
    exact.save(tmp_path / 'y.gallery')
    assert len(Gallery.load(tmp_path / 'y.gallery').search(people(2, 1), 3)[0]) == 2


# --- Images whose features are equal --------------------------------------------------------------


def with_twins(count: int, seed: int, distinct: int) -> ReIDFeatures:
    """Images of which many are the same: so many features, each as often as it comes."""
    images = people(distinct, seed)[np.random.default_rng(seed).integers(0, distinct, count)]
    images.camids[:] = np.arange(count) + 1000 * seed
    return images


@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('queries', [1, 60])
def test_equal_images_come_in_the_gallerys_order_whatever_is_asked_for(
    distance: str, queries: int
) -> None:
    images, query = with_twins(1003, 2, 50), people(queries, 1)
    query.features[0] = images.features[77]
    gallery = filled(images, 'exact', distance)
    everything, values = gallery.search(query, 1003)
    assert (np.sort(everything) == np.arange(1003)).all()
    assert (np.diff(values) >= 0).all()
    equal = np.diff(values) == 0
    assert equal.mean() > 0.9 and (np.diff(everything)[equal] > 0).all()
    for top in (1, 2, 7, 200):
        found, distances = gallery.search(query, top)
        np.testing.assert_array_equal(found, everything[:, :top])
        np.testing.assert_array_equal(distances, values[:, :top])


def test_different_features_at_one_distance_come_in_the_gallerys_order() -> None:
    """As in the evaluation: whole numbers, whose products are exact however they are added up."""
    rng = np.random.default_rng(0)
    features = rng.integers(-2, 3, (300, WIDTH)).astype(np.float32)[rng.integers(0, 300, 400)]
    images = ReIDFeatures(features, np.arange(400), np.zeros(400), [], MODEL)
    query = images[[3, 17, 250]]
    query.camids += 1
    gallery = filled(images, 'exact', 'euclidean')
    for top in (1, 5, 100):
        expected, values = nearest(query, images, top, 'euclidean')
        found, distances = gallery.search(query, top)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(distances, values)


def test_a_vector_that_stands_thousands_of_times_hides_no_other() -> None:
    images, query = people(5000, 2), people(200, 1)
    images.features[1000:4000] = images.features[1000]
    gallery = filled(images, 'approximate')
    expected, _ = filled(images, 'exact').search(query, 1)
    found, _ = gallery.search(query, 1)
    assert (found == expected).mean() > 0.97
    same, _ = gallery.search(images[2000:2001], 3000)
    np.testing.assert_array_equal(same[0], np.arange(1000, 4000))
    assert len(gallery._vectors) == 2001


@pytest.mark.parametrize('index', INDICES)
def test_twins_are_known_when_a_saved_gallery_grows(index: str, tmp_path: Path) -> None:
    images = with_twins(300, 2, 20)
    gallery = filled(images, index)
    gallery.save(tmp_path / 'x.gallery')
    loaded = Gallery.load(tmp_path / 'x.gallery')
    for grown in (gallery, loaded):
        vectors = len(grown._vectors)
        grown.add(images[:50])
        assert len(grown) == 350 and len(grown._vectors) == vectors <= 20
    for one, two in zip(gallery.search(images[:9], 60), loaded.search(images[:9], 60), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('index', INDICES)
def test_a_gallery_of_before_equal_features_were_kept_once(
    index: str, distance: str, tmp_path: Path
) -> None:
    """All that it had: features in FAISS's index, one for each image."""
    images = with_twins(120, 2, 100) if index == 'exact' else people(120, 2)
    gallery = filled(images, index, distance)
    gallery.save(tmp_path / 'new.gallery')
    vectors = np.concatenate(list(gallery._vectors.blocks()))[gallery._rows]
    metric = faiss.METRIC_INNER_PRODUCT if distance == 'cosine' else faiss.METRIC_L2
    if index == 'exact':
        kept = faiss.IndexFlatIP(WIDTH) if distance == 'cosine' else faiss.IndexFlatL2(WIDTH)
    else:
        kept = faiss.IndexHNSWFlat(WIDTH, 32, metric)
    kept.add(vectors)
    with zipfile.ZipFile(tmp_path / 'new.gallery') as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(parts['header.json'])
    del header['preparation']
    with zipfile.ZipFile(tmp_path / 'old.gallery', 'w') as archive:
        archive.writestr('header.json', json.dumps(header))
        for name in ('paths.json', 'labels.npy'):
            archive.writestr(name, parts[name])
        archive.writestr('index.faiss', faiss.serialize_index(kept).tobytes())
    old = Gallery.load(tmp_path / 'old.gallery')
    query = people(9, 1)
    for one, two in zip(old.search(query), gallery.search(query), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    old.add(images[:30])
    gallery.add(images[:30])
    assert (old.search(query)[0] == gallery.search(query)[0]).all()


def test_every_block_of_a_large_search_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    images, query = with_twins(700, 2, 300), people(41, 1)
    expected = filled(images).search(query, 5)
    monkeypatch.setattr('effvit_mm.reid.search.ROWS_AT_ONCE', 13)
    blocks = ExactIndex.nearest.__globals__['FeatureSpace'].blocks
    monkeypatch.setattr(
        'effvit_mm.reid.distances.FeatureSpace.blocks',
        lambda self, other: blocks(self, other, 4 * len(other) * 4),
    )
    found = filled(images).search(query, 5)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


# --- How images were prepared ---------------------------------------------------------------------


def test_features_of_images_prepared_in_another_way_are_refused(tmp_path: Path) -> None:
    images, query = people(9, 2), people(2, 1)
    images.preparation = 'Resize(scale=[128, 256])'
    gallery = filled(images)
    gallery.save(tmp_path / 'x.gallery')
    for kept in (gallery, Gallery.load(tmp_path / 'x.gallery')):
        assert kept.preparation == images.preparation
        kept.search(query)  # not known: as before
        query.preparation = f'{images.preparation}, flip'
        for action in (kept.add, kept.search):
            with pytest.raises(DataError, match=r'prepared by .*, flip, the gallery by .*--flip'):
                action(query)
        query.preparation = ''
    assert len(gallery) == 9


# --- Other cameras --------------------------------------------------------------------------------


@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('index', INDICES)
def test_other_cameras_are_those_of_the_evaluation(index: str, distance: str) -> None:
    images, query = with_twins(600, 2, 400), people(30, 1)
    images.camids[:], query.camids[:] = np.arange(600) % 3, np.arange(30) % 3
    gallery = filled(images, index, distance)
    found, values = gallery.search(query, 10, other_cameras=True)
    own = (gallery.camids[found] == query.camids[:, None]) & (
        gallery.pids[found] == query.pids[:, None]
    )
    assert not own.any()
    expected, distances = nearest(query, images, 10, distance)
    plain = gallery.search(query, 10)[0]
    assert (plain != expected).any(axis=1).mean() > 0.5  # there is something to leave out
    assert (found == expected).mean() > (0.97 if index == 'approximate' else 0.999)
    np.testing.assert_allclose(values, distances, atol=0.02 if index == 'approximate' else 1e-4)


@pytest.mark.parametrize('index', INDICES)
def test_of_a_person_who_is_not_known_all_by_the_camera_are_left_out(index: str) -> None:
    images, query = people(60, 2), people(5, 1)
    images.camids, query.camids[:] = np.arange(60) % 2, 1
    query.pids[:] = -1
    gallery = filled(images, index)
    found, values = gallery.search(query, 60, other_cameras=True)
    assert (np.sort(found[:, :30]) == np.arange(0, 60, 2)).all()
    assert (found[:, 30:] == -1).all() and np.isinf(values[:, 30:]).all()
    gallery.label(images.pids, np.ones(60))
    assert (gallery.search(query, 3, other_cameras=True)[0] == -1).all()


def test_cameras_that_are_not_known_are_told() -> None:
    images, query = people(60, 2), people(5, 1)
    gallery = filled(images)
    query.camids[1] = -1
    with pytest.raises(DataError, match='cameras of 1 of 5 queries are not known'):
        gallery.search(query, other_cameras=True)
    query.camids[1] = 0
    gallery.label(images.pids, np.full(60, -1))
    with pytest.raises(DataError, match='cameras of 60 of 60 images of the gallery'):
        gallery.search(query, other_cameras=True)
    with pytest.raises(DataError, match='3 labels for 60 images'):
        gallery.label(np.zeros(3), np.zeros(3))


def test_files_are_labelled_by_their_names() -> None:
    pids, camids = label_files(['/a/0012_c3s1_1.jpg', 'b/-1_c1s1_2.jpg', '0012_c03_9.jpg'])
    assert (pids.tolist(), camids.tolist()) == ([12, -1, 12], [2, 0, 2])
    pattern = r'/(?P<cam>[a-z]+)\d+\.png$'
    pids, camids = label_files(['/x/yard1.png', '/x/hall2.png', '/x/yard3.png'], pattern)
    assert (pids.tolist(), camids.tolist()) == ([-1, -1, -1], [1, 0, 1])
    pattern = r'(?P<pid>[^/]+)/cam(?P<cam>\d)'
    pids, camids = label_files(['/x/eve/cam0.png', '/x/ada/cam1.png'], pattern)
    assert (pids.tolist(), camids.tolist()) == ([1, 0], [0, 1])
    with pytest.raises(DataError, match=r'1 of 2 file names .*somebody.jpg.*\(\?P<cam>'):
        label_files(['0012_c3s1_1.jpg', 'somebody.jpg'])
    with pytest.raises(ConfigError, match="the named group 'cam' is missing"):
        label_files(['0012_c3s1_1.jpg'], r'(?P<pid>\d+)')


def test_vectors_in_many_parts_are_never_twice_in_memory(pythons):
    """Parts larger than the C library's own store, 32 MB, go back to the system one by one."""
    code = """
import numpy as np
import torch
from benchmarks.measure.memory import peak_bytes, reset_peak, resident_bytes
from effvit_mm.reid.vector_index import ExactIndex

torch.set_num_threads(1)
index, rng, wanted = ExactIndex(512, 'cosine'), np.random.default_rng(0), []
for _ in range(8):
    part = rng.standard_normal((20_000, 512), np.float32)  # 41 MB
    wanted.append(part[7].copy())
    index.add(part)
del part
before = resident_bytes()
reset_peak()
list(index.nearest(np.stack(wanted), 1, None))
grown = peak_bytes() - before
assert np.array_equal(index.take(np.arange(7, 160_000, 20_000)), np.stack(wanted))
assert grown < 120e6, grown  # 328 MB if all were copied; a part, and a block of distances
"""
    done = pythons.run('-c', code, cwd=ROOT)
    assert done.returncode == 0, done.stderr
