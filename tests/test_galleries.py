"""Every kind of gallery finds the same, keeps what it confirmed, and says what is broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gallery_images import MODEL, WIDTH, database, images, known
from remedies import tries

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.reid import database_gallery, large_gallery, large_index
from effvit_mm.reid.database_gallery import DatabaseGallery
from effvit_mm.reid.distances import DISTANCES, FeatureSpace
from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.galleries import KINDS, create_gallery, finish, is_there, open_gallery
from effvit_mm.reid.large_gallery import LargeGallery
from effvit_mm.reid.search import Gallery
from effvit_mm.reid.vector_index import INDICES
from effvit_mm.reid.where import Where

EXACT = ['exact', 'large', pytest.param('file.db', marks=database)]
SAME = [(kind, distance) for kind in EXACT[:2] for distance in DISTANCES] + [
    pytest.param('file.db', 'euclidean', marks=database),
    pytest.param('server', 'cosine', marks=database),
]
APPROXIMATE = ['approximate', 'large index', pytest.param('approximate.db', marks=database)]


@pytest.fixture
def server(tmp_path):
    """Address of a database server."""
    started = pytest.importorskip('milvus_lite.adapter.grpc.server')
    served, stored, port = started.start_server_in_thread(
        data_dir=str(tmp_path / 'served'), host='127.0.0.1', port=0
    )
    yield f'http://127.0.0.1:{port}'
    served.stop(grace=0)
    stored.close()


@pytest.fixture
def make(request, tmp_path, monkeypatch):
    """Make an empty gallery of a kind, and reopen one; all are closed in the end."""
    opened, places = [], {}

    def remember(gallery, place):
        opened.append(gallery)
        places[id(gallery)] = place
        return gallery

    def create(kind, distance='cosine'):
        index = kind.partition('.')[0].partition(' ')[0]
        if kind == 'large index':
            monkeypatch.setattr(large_gallery, 'SMALL', 20)
            monkeypatch.setattr(large_gallery, 'FEW', 20)
        place = request.getfixturevalue('server') if kind == 'server' else tmp_path / kind
        index = index if index in KINDS else 'exact'
        return remember(create_gallery(place, WIDTH, MODEL, index=index, distance=distance), place)

    def reopen(gallery):
        place = places[id(gallery)]
        finish(gallery, place)
        if hasattr(gallery, 'close'):
            opened.remove(gallery)
            gallery.close()
        return remember(open_gallery(place, model=MODEL, width=WIDTH), place)

    create.again = reopen
    yield create
    for gallery in opened:
        if hasattr(gallery, 'close'):
            gallery.close()


class Plain:
    """What a gallery should be: all in lists, every distance computed."""

    def __init__(self, distance: str) -> None:
        self.distance, self.rows = distance, {}

    def put(self, numbers, features, columns) -> None:
        for place, number in enumerate(numbers):
            vector = features.features[place].astype(np.float64)
            if self.distance == 'cosine':
                vector = vector / np.linalg.norm(vector)
            self.rows[int(number)] = {
                **{name: values[place] for name, values in columns.items()},
                'vector': vector,
                'pid': features.pids[place],
                'camid': features.camids[place],
                'path': features.paths[place],
            }

    def ranking(self, features, place, top, chosen):
        query = features.features[place].astype(np.float64)
        found = []
        for number, row in self.rows.items():
            if not chosen(row, features.pids[place], features.camids[place]):
                continue
            if self.distance == 'cosine':
                value = 1 - row['vector'] @ (query / np.linalg.norm(query))
            else:
                value = ((row['vector'] - query) ** 2).sum()
            found.append((value, number))
        return sorted(found)[:top]


# How a search is narrowed, and the same in plain words.
CHOICES = {
    'all': ({}, lambda row, pid, camid: True),
    'other cameras': (
        {'other_cameras': True},
        lambda row, pid, camid: (row['pid'], row['camid']) != (pid, camid),
    ),
    'cameras': (
        {'where': Where(cameras=[1, 3], not_cameras=3)},
        lambda row, pid, camid: row['camid'] == 1,
    ),
    'time': (
        {'where': Where(begin=1040, end=1060)},
        lambda row, pid, camid: (
            row['begin'] is not None
            and row['begin'] < 1060
            and (row['end'] > 1040 or row['begin'] >= 1040)
        ),
    ),
    'until': (
        {'where': Where(end=1020)},
        lambda row, pid, camid: row['begin'] is not None and row['begin'] < 1020,
    ),
    'source and other cameras': (
        {'where': Where(columns={'source': '"häll".mp4', 'track': [1, 2]}), 'other_cameras': True},
        lambda row, pid, camid: (
            row['source'] == '"häll".mp4'
            and row['track'] in (1, 2)
            and (row['pid'], row['camid']) != (pid, camid)
        ),
    ),
    'nothing': (
        {'where': Where(columns={'source': 'cellar.mp4'})},
        lambda row, pid, camid: False,
    ),
}


def compare(gallery, plain: Plain, query: ReIDFeatures) -> None:
    """A gallery finds and keeps what the plain one does."""
    assert len(gallery) == len(plain.rows)
    assert gallery.find().tolist() == sorted(plain.rows)
    for name, (options, chosen) in CHOICES.items():
        for top in (1, 12, 400) if name == 'all' else (12,):
            numbers, distances = gallery.search(query, top, **options)
            assert numbers.dtype == np.int64 and distances.dtype == np.float32
            for place, (row, values) in enumerate(zip(numbers, distances, strict=True)):
                expected = plain.ranking(query, place, top, chosen)
                rest = top - len(expected)
                assert row.tolist() == [n for _, n in expected] + [-1] * rest, (name, top)
                assert values.tolist() == [v for v, _ in expected] + [np.inf] * rest
        if 'where' in options and 'other_cameras' not in options:
            there = [n for n, row in sorted(plain.rows.items()) if chosen(row, None, None)]
            assert gallery.find(options['where']).tolist() == there
    some = list(plain.rows)[::17][::-1] * 2
    features, columns = gallery.take(some)
    for place, number in enumerate(some):
        row = plain.rows[number]
        np.testing.assert_array_equal(features.features[place], row['vector'])
        assert (features.paths[place], features.pids[place]) == (row['path'], row['pid'])
        assert features.camids[place] == row['camid']
        assert {name: columns[name][place] for name in columns} == {n: row[n] for n in columns}
    assert (features.model, set(columns)) == (MODEL, set(known(1, 1)))


@pytest.mark.parametrize('kind, distance', SAME)
def test_the_same_is_found_whatever_the_gallery_is_and_whatever_was_done_to_it(
    kind, distance, make
):
    gallery, plain = make(kind, distance), Plain(distance)
    query = images(3, 5)
    query.features[0] = images(100, 1).features[0]  # which stands there often
    for seed, count in ((1, 100), (2, 30)):
        added, columns = images(count, seed), known(count, seed)
        numbers = gallery.add(added, columns)
        assert numbers.tolist() == list(range(len(plain.rows), len(plain.rows) + count))
        plain.put(numbers, added, columns)
    compare(gallery, plain, query)
    gone = [129, 0, 57, 58]
    gallery.delete(gone)
    for number in gone:
        del plain.rows[number]
    changed = [3, 99, 1], images(3, 7), known(3, 1)
    gallery.update(*changed)
    plain.put(*changed)
    gallery = make.again(gallery)
    numbers = gallery.add(images(4, 8), known(4, 8))
    assert numbers.tolist() == [130, 131, 132, 133]  # no number comes twice
    plain.put(numbers, images(4, 8), known(4, 8))
    compare(gallery, plain, query)


@pytest.mark.parametrize('kind', APPROXIMATE)
def test_an_approximate_index_finds_nearly_the_same(kind, make):
    rng = np.random.default_rng(0)
    people = rng.standard_normal((40, WIDTH))[np.arange(600) % 40]
    features = people + 0.5 * rng.standard_normal((600, WIDTH))
    added = ReIDFeatures(features, np.arange(600) % 40, np.arange(600) % 3, model=MODEL)
    exact, gallery = Gallery(WIDTH, MODEL), make(kind)
    for each in (exact, gallery):
        each.add(added, {'source': ['a', 'b'] * 300})
        each.delete([7, 8])
    gallery = make.again(gallery)
    for options in ({}, {'where': Where(cameras=1, columns={'source': 'b'})}):
        expected, _ = exact.search(added[:50], 10, **options)
        found, values = gallery.search(added[:50], 10, **options)
        shared = [len(set(a) & set(b)) / 10 for a, b in zip(found, expected, strict=True)]
        assert np.mean(shared) > 0.95
        assert (np.diff(values, axis=1) >= 0).all()
        assert not np.isin(found, [7, 8]).any()


def test_an_approximate_index_finds_the_nearest_of_however_few_may_be_found():
    rng = np.random.default_rng(0)
    looks = rng.standard_normal((300, 32))[rng.integers(0, 300, 20000)]
    features = np.float32(looks + 0.7 * rng.standard_normal((20000, 32)))
    vectors = FeatureSpace(features, 'cosine').features.numpy()
    queries, indices = vectors[::400], [kind(32, 'cosine') for kind in INDICES.values()]
    for index in indices:
        index.add(vectors)
    for share in (1, 0.9, 0.5, 0.2, 0.05, 0.005, 0):
        left_out = [np.flatnonzero(rng.random(20000) >= share) for _ in queries]
        exact, found = (
            [numbers for numbers, _ in index.nearest(queries, 10, left_out)] for index in indices
        )
        assert [len(a) for a in found] == [10 if share else 0] * len(queries)
        shared = [np.isin(a, b).mean() for a, b in zip(found, exact, strict=True) if share]
        assert not share or np.mean(shared) > 0.99, share
        assert not any(np.isin(a, b).any() for a, b in zip(found, left_out, strict=True))


# --- What cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', [*EXACT, 'approximate'])
def test_what_cannot_be_is_told_and_changes_nothing(kind, make):
    gallery = make(kind)
    with pytest.raises(DataError, match='the gallery is empty'):
        gallery.search(images(1, 1))
    gallery.add(images(9, 1), known(9, 1))
    gallery.delete([4])
    other, broken = images(2, 3), images(2, 3)
    other.model, broken.features[1, 2] = 'LeViT-1', np.nan
    narrow = ReIDFeatures(np.ones((2, 7)), [1, 2], [0, 0])
    two, plain = images(2, 3), known(2, 1)
    short = {**plain, 'source': ['a']}
    for action, message in (
        (lambda: gallery.add(other, plain), 'features of the model LeViT-1'),
        (lambda: gallery.add(broken, plain), 'feature 2 of image 1 .* is nan'),
        (lambda: gallery.add(narrow, plain), 'of width 7'),
        (lambda: gallery.add(two), r"columns \[\]: the gallery has \['begin', "),
        (lambda: gallery.add(two, short), "column 'source': 1 values for 2 features"),
        (lambda: gallery.update([1, 9], two, plain), r'image 9: .* no such image \(1 of 2'),
        (lambda: gallery.update([1, 4], two, plain), 'image 4: the gallery has no such image'),
        (lambda: gallery.update([1, 1], two, plain), '2 are given, but some twice'),
        (lambda: gallery.update([1], two, plain), '2 features for 1 images'),
        (lambda: gallery.update([1, 2], two), 'columns'),
        (lambda: gallery.delete([-1]), 'image -1: the gallery has no such image'),
        (lambda: gallery.delete([0.5]), 'numbers of images: float64'),
        (lambda: gallery.take([4]), 'image 4: the gallery has no such image'),
        (lambda: gallery.search(other), 'features of the model LeViT-1'),
        (
            lambda: gallery.search(two, where=Where(columns={'sorce': 1})),
            "no column 'sorce'; it ha",
        ),
        (lambda: gallery.search(two, top=0), 'top=0'),
    ):
        with pytest.raises((DataError, ConfigError), match=message):
            action()
    two.camids[:] = -1
    with pytest.raises(DataError, match='cameras of 2 of 2 queries are not known'):
        gallery.search(two, other_cameras=True)
    assert gallery.find().tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    features, columns = gallery.take([1, 2])
    assert features.paths == images(9, 1).paths[1:3]
    assert columns['box'] == known(9, 1)['box'][1:3]
    gallery.add(two, plain)
    with pytest.raises(DataError, match='cameras of 2 of 10 images of the gallery are not known'):
        gallery.search(images(1, 3), other_cameras=True)


def test_what_cannot_be_asked_for():
    with pytest.raises(ConfigError, match=r"where.cameras='2': numbers of cameras are needed"):
        Where(cameras='2')
    with pytest.raises(ConfigError, match=r"where.columns\['box'\]=\[0.5\]: only text, whole"):
        Where(columns={'box': [0.5]})
    with pytest.raises(ConfigError, match=r"where.columns: 'end' is no column of values, but of t"):
        Where(columns={'end': 5})
    gallery = Gallery(WIDTH)
    gallery.add(images(2, 1))
    with pytest.raises(DataError, match="no column 'begin'; it has none"):
        gallery.find(Where(begin=1))


@tries('index={}: choose from {}')
def test_places_and_kinds(tmp_path):
    with pytest.raises(ConfigError, match="index='ivf': choose from exact, approximate, large"):
        create_gallery(tmp_path / 'x', WIDTH, index='ivf')
    assert [create_gallery(tmp_path / k, WIDTH, index=k).index for k in KINDS] == list(KINDS)
    with pytest.raises(ConfigError, match=f'gallery {tmp_path}/large: there is one already'):
        create_gallery(tmp_path / 'large', WIDTH, index='large')
    for kind, message in (('large', 'width=0'), ('exact', 'width=0')):
        with pytest.raises(ConfigError, match=message):
            create_gallery(tmp_path / 'y', 0, index=kind)
    with pytest.raises(DataError, match=rf'gallery {tmp_path}: there is no gallery.json in it'):
        open_gallery(tmp_path)
    with pytest.raises(DataError, match=r'z: no such file'):
        open_gallery(tmp_path / 'z')
    for width, model, message in ((8, '', 'width 16, expected 8'), (None, 'L-1', 'not of L-1')):
        with pytest.raises(DataError, match=message):
            open_gallery(tmp_path / 'large', width=width, model=model)


# --- Kills ---------------------------------------------------------------------------------------


class KilledError(Exception):
    """In the place of a kill."""


@pytest.mark.parametrize('after', ['features.f16', 'rows.bin', 'names.jsonl', 'deleted.i64'])
def test_what_was_not_confirmed_is_not_there(after, make, monkeypatch):
    gallery, plain = make('large'), Plain('cosine')
    gallery.add(images(20, 1), known(20, 1))
    plain.put(range(20), images(20, 1), known(20, 1))
    append = large_gallery.FlatFile.append

    def dying(file, rows, start):
        append(file, rows, start)
        if file.path.name == after:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(large_gallery.FlatFile, 'append', dying)
        for action in (
            lambda: gallery.add(images(5, 2), known(5, 2)),
            lambda: gallery.update([3, 4], images(2, 2), known(2, 2)),
        ):
            with pytest.raises(KilledError):
                action()
    for opened in (lambda: gallery, lambda: LargeGallery.open(gallery.folder)):
        again = opened()
        compare(again, plain, images(3, 5))
        again.update([3, 4], images(2, 3), known(2, 3))
        plain.put([3, 4], images(2, 3), known(2, 3))
        compare(again, plain, images(3, 5))


def test_a_gallery_that_another_process_changed(make):
    gallery = make('large')
    gallery.add(images(5, 1))
    other = LargeGallery.open(gallery.folder)
    other.add(images(5, 2))
    for action in (lambda: gallery.add(images(1, 3)), lambda: gallery.delete([0])):
        with pytest.raises(DataError, match=r'changed by another process: open it again'):
            action()
    assert LargeGallery.open(gallery.folder).add(images(1, 3)).tolist() == [10]


def test_an_index_that_was_interrupted_is_the_same_in_the_end(make, monkeypatch):
    monkeypatch.setattr(large_index, 'ROWS_AT_ONCE', 50)
    gallery, whole = make('large index'), LargeGallery.create(make('large').folder / 'b', WIDTH)
    rng = np.random.default_rng(0)
    added = ReIDFeatures(rng.standard_normal((330, WIDTH)), np.zeros(330), np.zeros(330))
    for each in (gallery, whole):
        each.add(added)
    whole.build()
    told = []

    def stop(text):
        told.append(text)
        if '100 of' in text or '200 of' in text:
            raise KilledError

    for _ in range(2):
        with pytest.raises(KilledError):
            gallery.build(stop)
        gallery = LargeGallery.open(gallery.folder)
        assert (gallery.search(added, 1)[0][:, 0] == np.arange(330)).all()
    gallery.build(stop)
    assert len(told) == len(set(told)) == 1 + 7  # centres once, every block once
    for name in ('codes.u8', 'trained.faiss', 'index.json'):
        assert (gallery.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_centres_are_learnt_anew_when_it_has_grown(make):
    gallery = make('large index')
    rng = np.random.default_rng(0)
    added = ReIDFeatures(rng.standard_normal((800, WIDTH)), np.zeros(800), np.zeros(800))
    lists = []
    for start, stop in ((0, 90), (90, 200), (200, 800)):
        gallery.add(added[start:stop])
        gallery.build()
        lists.append(gallery._index.lists)
        found, _ = gallery.search(added[:stop], 1)
        assert (found[:, 0] == np.arange(stop)).mean() > 0.97
    assert lists == [8, 8, 16]


# --- Broken files --------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    """Cut a file short, put something else into it, or take a part of its JSON out."""
    content = path.read_bytes()
    if how == 'short':
        path.write_bytes(content[: len(content) // 2])
    elif how == 'other':
        path.write_bytes(b'\xff' * 60)
    elif how == 'gone':
        path.unlink()
    else:
        parts = json.loads(content)
        del parts[how]
        path.write_text(json.dumps(parts))


@pytest.mark.parametrize(
    'name, how, message',
    [
        ('gallery.json', 'short', 'cannot be read'),
        ('gallery.json', 'other', 'cannot be read'),
        ('gallery.json', 'gone', 'there is no gallery.json in it'),
        ('gallery.json', 'kind', 'was not written by effvit_mm'),
        ('gallery.json', 'slots', "has no 'slots'"),
        ('features.f16', 'short', 'is cut short'),
        ('features.f16', 'gone', 'is cut short: it has 0 bytes'),
        ('rows.bin', 'short', 'is cut short'),
        ('names.jsonl', 'short', 'is cut short'),
        ('deleted.i64', 'gone', 'is cut short'),
        ('index.json', 'other', 'cannot be read'),
        ('index.json', 'coded', 'cannot be read'),
        ('codes.u8', 'short', 'is cut short'),
        ('trained.faiss', 'short', 'cannot be read'),
        ('trained.faiss', 'other', 'cannot be read'),
        ('trained.faiss', 'gone', 'cannot be read'),
    ],
)
def test_a_broken_file_of_a_folder_is_named(name, how, message, make):
    gallery = make('large index')
    gallery.add(images(60, 1), known(60, 1))
    gallery.delete([3])
    gallery.build()
    damage(gallery.folder / name, how)
    with pytest.raises(DataError, match=message) as error:
        LargeGallery.open(gallery.folder).search(images(1, 2))
    assert name.partition('.')[0] in str(error.value) and '\n' not in str(error.value)


def test_a_feature_that_float16_does_not_hold(make):
    gallery = make('large', 'euclidean')
    with pytest.raises(DataError, match='a feature of 70000 is larger than float16 holds'):
        gallery.add(ReIDFeatures(np.full((1, WIDTH), 7e4), [0], [0]))


def test_values_that_are_not_plain(make):
    with pytest.raises(DataError, match=r'columns: .*Path is not JSON serializable; plain values'):
        make('large').add(images(1, 1), {'source': [Path('x')]})


@database
def test_databases_that_cannot_be_opened(tmp_path, server, monkeypatch):
    with pytest.raises(DataError, match=r'x.db: no such file'):
        open_gallery(tmp_path / 'x.db')
    with pytest.raises(
        ConfigError, match=r'gallery people: the name of a database ends in .db, or'
    ):
        DatabaseGallery.create('people', WIDTH)
    with pytest.raises(ConfigError, match="index='large': a database has exact or approximate"):
        create_gallery(tmp_path / 'x.db', WIDTH, index='large')
    with pytest.raises(ConfigError, match='width=1: a database needs 2 or more'):
        create_gallery(tmp_path / 'x.db', 1)
    with pytest.raises(DataError, match="no collection 'effvit_mm_gallery'; it has none"):
        open_gallery(server)
    create_gallery(server, WIDTH, MODEL)
    with pytest.raises(ConfigError, match="there is a collection 'effvit_mm_gallery' already"):
        create_gallery(server, WIDTH, MODEL)
    with pytest.raises(DataError, match=f'gallery {server} has features of .*, not of L-1'):
        open_gallery(server, model='L-1')
    monkeypatch.setattr(database_gallery, 'WAIT', 0.5)
    for action in (open_gallery, is_there, lambda place: create_gallery(place, WIDTH)):
        with pytest.raises(DataError, match=r'gallery http://127.0.0.1:9: .*connect'):
            action('http://127.0.0.1:9')
    (tmp_path / 'y.db').write_text('not a database')
    with pytest.raises(DataError, match=r'gallery .*y.db.*'):
        open_gallery(tmp_path / 'y.db')
