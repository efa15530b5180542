"""Search in a gallery: finds what the ranking finds, and comes back from a file as it was."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.reid.distances import DISTANCES
from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.ranking import nearest
from effvit_mm.reid.search import INDICES, Gallery

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
    with pytest.raises(DataError, match=f'{path} is damaged: index.faiss has a wrong checksum'):
        Gallery.load(path)


def rewrite(path: Path, name: str, content: bytes) -> None:
    """Replace a part of a gallery's file, with a right checksum."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for entry, old in parts.items():
            archive.writestr(entry, content if entry == name else old)


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    path = tmp_path / 'x.gallery'
    labels = io.BytesIO()
    np.save(labels, np.zeros((2, 3), np.int64))
    objects = io.BytesIO()
    np.save(objects, np.array([{}, {}], dtype=object))
    filled(people(50, 2), 'approximate').save(tmp_path / 'y.gallery')
    with zipfile.ZipFile(tmp_path / 'y.gallery') as archive:
        approximate = archive.read('index.faiss')
    for name, content, message in (
        ('paths.json', json.dumps(['a']).encode(), '50 features, 1 names, 50 labels'),
        ('labels.npy', labels.getvalue(), '50 features, 50 names, 3 labels'),
        ('labels.npy', objects.getvalue(), 'allow_pickle=False'),
        ('index.faiss', approximate, 'IndexHNSWFlat of width 24'),
        ('index.faiss', b'IxF2' + b'\xff' * 60, 'cannot be read'),
    ):
        filled(people(50, 2)).save(path)
        rewrite(path, name, content)
        with pytest.raises(DataError, match=message):
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


def test_without_faiss_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'faiss', None)
    with pytest.raises(ConfigError, match='pip install faiss-cpu'):
        Gallery(8)
    with pytest.raises(ConfigError, match='pip install faiss-cpu'):
        Gallery.load(tmp_path / 'x.gallery')
