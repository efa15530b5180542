"""A gallery knows more of its images than their names: columns, by which some are chosen."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from effvit_mm.errors import DataError
from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.search import Gallery
from effvit_mm.reid.vector_index import INDICES


def features(count, seed=0):
    values = np.random.default_rng(seed).standard_normal((count, 8))
    return ReIDFeatures(
        values, np.full(count, -1), np.arange(count), [f'{i}' for i in range(count)]
    )


@pytest.mark.parametrize('kind', INDICES)
def test_a_gallery_finds_among_some_of_its_images(kind, tmp_path):
    images, gallery = features(60), Gallery(8, index=kind)
    gallery.add(images[:40], {'when': list(range(40)), 'where': ['a', 'b'] * 20})
    gallery.add(images[40:], {'when': list(range(40, 60)), 'where': ['c'] * 20})
    gallery.save(tmp_path / 'gallery')
    for one in (gallery, Gallery.load(tmp_path / 'gallery')):
        assert one.columns['when'] == list(range(60))
        allowed = np.array(one.columns['where']) == 'c'
        rows, distances = one.search(images[:5], 20, among=allowed)
        assert np.sort(rows, 1).tolist() == [list(range(40, 60))] * 5
        alone = Gallery(8, index=kind)
        alone.add(images[40:])
        expected, values = alone.search(images[:5], 20)
        np.testing.assert_array_equal(rows, expected + 40)
        np.testing.assert_allclose(distances, values, atol=1e-5)
    rows, _ = gallery.search(images[:1], 3, among=np.zeros(60, bool))
    assert (rows == -1).all()
    with pytest.raises(DataError, match=r'among has shape \(3,\) for 60 images'):
        gallery.search(images[:1], among=np.ones(3, bool))


def test_columns_are_the_same_for_all_images(tmp_path):
    gallery = Gallery(8)
    gallery.add(features(2), {'when': [1, 2]})
    with pytest.raises(DataError, match=r"columns \[\]: the gallery has \['when'\]"):
        gallery.add(features(2, 1))
    with pytest.raises(DataError, match="'when': 1 values for 2 features"):
        gallery.add(features(2, 1), {'when': [1]})
    assert len(gallery) == 2
    plain = Gallery(8)
    plain.add(features(2))
    plain.save(tmp_path / 'old')
    parts = {}
    with zipfile.ZipFile(tmp_path / 'old') as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / 'old', 'w') as archive:  # as earlier versions wrote it
        for name, data in parts.items():
            if name != 'columns.json':
                archive.writestr(name, data)
    assert Gallery.load(tmp_path / 'old').columns == {}
