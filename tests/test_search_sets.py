"""Person search on PRW and CUHK-SYSU: their layouts, their rules, a run that is interrupted."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from films import Colors
from programs import load_tool
from remedies import tries

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.inference.frame_people import FramePeople, evaluate_sets
from effvit_mm.inference.results import Detection
from effvit_mm.tracking.search_figures import FoundPeople, judge_search
from effvit_mm.tracking.search_sets import (
    GALLERY_SIZES,
    SearchQuery,
    read_cuhk_sysu,
    read_mat,
    read_prw,
)

savemat = pytest.importorskip('scipy.io').savemat
# PRW: the persons of each frame, with left, top, width, height.
FRAMES = {
    'c1s1_000100': [(7, -4.6, 10.2, 30.9, 60.0), (-2, 50, 10, 20, 60)],
    'c1s1_000200': [(7, 20, 12, 24, 60)],
    'c2s1_000150': [(7, 44, 8, 28, 70), (9, 4, 8, 28, 70)],
    'c3s2_000300': [(9, 40, 20, 25, 62)],
    'c4s1_000001': [(-2, 40, 20, 25, 62)],
}


def cells(values):
    array = np.empty((len(values), 1), object)
    array[:, 0] = values
    return array


@pytest.fixture
def prw(tmp_path):
    """The layout of PRW, with a variable's older names in some files."""
    folder = tmp_path / 'PRW'
    for name in ('frames', 'annotations'):
        (folder / name).mkdir(parents=True)
    names = ('box_new', 'anno_file', 'anno_previous', 'box_new', 'box_new')
    for number, ((frame, rows), name) in enumerate(zip(FRAMES.items(), names, strict=True)):
        savemat(folder / 'annotations' / f'{frame}.jpg.mat', {name: np.array(rows, float)})
        image = np.full((96, 96, 3), 20 * number, np.uint8)
        for person, x, y, width, height in rows:
            color = np.random.default_rng(person + 10).integers(0, 255, 3).tolist()
            corner = (int(max(x, 0)), int(y)), (int(x + width), int(y + height))
            cv2.rectangle(image, *corner, color, -1)
        cv2.imwrite(str(folder / 'frames' / f'{frame}.jpg'), image)
    savemat(folder / 'frame_test.mat', {'img_index_test': cells(list(FRAMES))})
    queries = '7 -4.6 10.2 30.9 60.0 c1s1_000100\r\n9 4 8 28 70 c2s1_000150\r\n'
    (folder / 'query_info.txt').write_bytes(queries.encode())
    return folder


def test_prw_as_the_published_readers_see_it(prw):
    found = read_prw(prw)
    assert found.images == prw / 'frames'
    assert found.frames == [f'{name}.jpg' for name in FRAMES]
    first, second = found.queries
    # Cut at the left edge: a query's box after its right edge is known, others' before.
    assert (first.image, first.box) == ('c1s1_000100.jpg', (0, 10, 26, 70))
    assert first.targets == {
        'c1s1_000200.jpg': (20, 12, 44, 72), 'c2s1_000150.jpg': (44, 8, 72, 78),
    }  # fmt: skip
    assert second.targets == {'c3s2_000300.jpg': (40, 20, 65, 82)}
    first, second = read_prw(prw, other_cameras=True).queries
    assert list(first.targets) == ['c2s1_000150.jpg']
    assert set(first.gallery) == {f'{name}.jpg' for name in FRAMES if not name.startswith('c1')}


def structs(names, rows):
    """A row of MATLAB structs."""
    array = np.empty((1, len(rows)), [(name, object) for name in names])
    for place, row in enumerate(rows):
        array[0, place] = row
    return array


def cuhk_sysu(folder, rows, size=50):
    """The layout of CUHK-SYSU: query and gallery, each a picture and a box or none."""
    names = ('imname', 'idlocate', 'ishard')
    protocol = [
        tuple(
            structs(names, [(image, np.array([box or []], float), 0) for image, box in scenes])
            for scenes in ([query], gallery)
        )
        for query, gallery in rows
    ]
    place = folder / 'annotation' / 'test' / 'train_test'
    place.mkdir(parents=True, exist_ok=True)
    name = f'TestG{size}'
    savemat(place / f'{name}.mat', {name: structs(('Query', 'Gallery'), protocol)})


def test_cuhk_sysu_as_the_published_readers_see_it(tmp_path):
    rows = [
        (('s1.jpg', [4, 5, 20, 50]), [('s2.jpg', [1, 2, 30, 40]), ('s3.jpg', None)]),
        (('s3.jpg', [0, 5, 20, 50]), [('s4.jpg', [9, 8, 7, 6])]),
    ]
    cuhk_sysu(tmp_path, rows)
    cuhk_sysu(tmp_path, rows[:1], 4000)
    found = read_cuhk_sysu(tmp_path, 50)
    assert found.images == tmp_path / 'Image' / 'SSM'
    assert found.queries == (
        SearchQuery('s1.jpg', (4, 5, 24, 55), ('s2.jpg', 's3.jpg'), {'s2.jpg': (1, 2, 31, 42)}),
        SearchQuery('s3.jpg', (0, 5, 20, 55), ('s4.jpg',), {'s4.jpg': (9, 8, 16, 14)}),
    )
    assert found.frames == ['s2.jpg', 's3.jpg', 's4.jpg']
    assert read_cuhk_sysu(tmp_path, 4000).queries == found.queries[:1]
    with pytest.raises(ConfigError, match='gallery size 60: one of 50, 100, 500'):
        read_cuhk_sysu(tmp_path, 60)
    with pytest.raises(DataError, match=r'TestG100.mat: No such file'):
        read_cuhk_sysu(tmp_path)
    assert GALLERY_SIZES == (50, 100, 500, 1000, 2000, 4000)


def test_broken_files_are_named(prw, tmp_path):
    with pytest.raises(DataError, match=r'frame_test.mat: no variable box_new or anno_file in it'):
        read_mat(prw / 'frame_test.mat', 'box_new', 'anno_file')
    (prw / 'query_info.txt').write_text('7 1 2 3 c1s1_000100\n')
    with pytest.raises(DataError, match=r"query_info.txt, line 1: '7 1 2 3 c1s1_000100': person"):
        read_prw(prw)
    (prw / 'frame_test.mat').write_text('no MATLAB')
    with pytest.raises(DataError, match=r'frame_test.mat: no MATLAB file'):
        read_prw(prw)
    cuhk_sysu(tmp_path, [(('s1.jpg', [4, 5, 20]), [])])
    with pytest.raises(DataError, match=r'TestG50.mat: row 1 of TestG50'):
        read_cuhk_sysu(tmp_path, 50)


@tries("PRW's and CUHK-SYSU's files need SciPy: `pip install scipy`")
def test_without_scipy_it_is_said(prw, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, 'scipy.io', None)
        with pytest.raises(ConfigError, match='need SciPy: `pip install scipy`'):
            read_prw(prw)
    assert read_prw(prw).queries


# The rules ---------------------------------------------------------------------------------------


def plain_search(queries, features, found, score_thr):
    """mAP and top-k straight from the definition, for one box after the other."""

    def iou(a, b):
        wide = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        high = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        size = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        return wide * high / (size[0] + size[1] - wide * high)

    precisions, tops = [], []
    for query, feature in zip(queries, features, strict=True):
        if not query.targets:
            continue
        items = []  # how alike, and whether it is a hit
        for name in query.gallery:
            if name == query.image:
                continue
            here = []
            for box, score, other in zip(*found[name], strict=True):
                if score >= score_thr:
                    cosine = feature @ other / np.linalg.norm(feature) / np.linalg.norm(other)
                    here.append((cosine, tuple(box)))
            hit = None
            for _, box in sorted(here, reverse=True):
                if name in query.targets and hit is None:
                    true = query.targets[name]
                    w, h = true[2] - true[0], true[3] - true[1]
                    if iou(box, true) >= min(0.5, w * h / ((w + 10) * (h + 10))):
                        hit = box
            items += [(cosine, box == hit) for cosine, box in here]
        items.sort(key=lambda item: -item[0])
        right, total = 0, 0.0
        for rank, (_, hit) in enumerate(items, start=1):
            if hit:
                right += 1
                total += right / rank
        precisions.append(total / len(query.targets))
        tops.append([any(hit for _, hit in items[:top]) for top in (1, 5, 10)])
    return np.mean(precisions), *np.mean(tops, 0)


def test_figures_are_those_of_a_plain_definition():
    generator = np.random.default_rng(0)
    names = [f's{number}.jpg' for number in range(14)]
    found, truth = {}, {}
    centres = generator.standard_normal((6, 5))
    for name in names:
        boxes, features = [], []
        for person in generator.permutation(6)[:3]:
            corner, size = generator.integers(0, 80, 2), generator.integers(3, 40, 2)
            true = np.concatenate([corner, corner + size]).astype(float)
            truth[name, int(person)] = tuple(true.tolist())
            for _ in range(int(generator.integers(0, 4))):  # not detected, once or several times
                boxes.append(true + generator.integers(-2, 3, 4) * 0.1 * size.mean())
                features.append(centres[person] + 1.2 * generator.standard_normal(5))
        count = len(boxes)
        found[name] = FoundPeople(
            np.reshape(boxes, (count, 4)), generator.random(count), np.reshape(features, (count, 5))
        )
    queries = []
    for (image, person), box in truth.items():
        gallery = [name for name in names if generator.random() < 0.7]
        targets = {n: truth[n, person] for n in gallery if n != image and (n, person) in truth}
        queries.append(SearchQuery(image, box, gallery, targets))
    queries.append(SearchQuery('s0.jpg', (0, 0, 5, 5), names, {}))
    features = generator.standard_normal((len(queries), 5))
    for threshold in (0.0, 0.5):
        figures = judge_search(queries, features, found, threshold)
        expected = plain_search(queries, features, found, threshold)
        np.testing.assert_allclose(figures[:4], expected, atol=1e-9)
        assert figures.queries + figures.left_out == len(queries) and figures.left_out >= 1
    with pytest.raises(DataError, match=r'nobody was found .* of 1.5 or more'):
        judge_search(queries, features, found, 1.5)
    del found['s3.jpg']
    with pytest.raises(DataError, match=r'picture s3.jpg: no line says who was found in it'):
        judge_search(queries, features, found)


# A run -------------------------------------------------------------------------------------------


class Everybody:
    """A detector that finds all people of ``FRAMES``, and a wrong box; ends at a call if asked."""

    classes = ('person', 'bag')

    def __init__(self, killed_at=None):
        self.calls, self.killed_at = 0, killed_at

    def __call__(self, arrays, batch_size, score_thr):
        if self.calls == self.killed_at:
            raise KeyboardInterrupt
        self.calls += 1
        return [self.find(array) for array in arrays]

    def find(self, array):
        rows = list(FRAMES.values())[round(array[-1, -1, 0] / 20)]
        boxes = [[max(x, 0), y, x + width, y + height] for _, x, y, width, height in rows]
        boxes = np.array([*boxes, [0, 60, 30, 90], [0, 0, 9, 9]], np.float32)
        scores = np.array([0.9] * len(rows) + [0.2, 0.9], np.float32)
        labels = np.array([0] * (len(rows) + 1) + [1])
        names = [self.classes[label] for label in labels]
        return Detection(None, None, array.shape[:2], boxes, scores, labels, names, None)


def test_a_run_on_prw_and_one_that_was_interrupted(prw, tmp_path):
    sets = [read_prw(prw), read_prw(prw, other_cameras=True)]
    made_by = {'detector': 'everybody'}
    people = FramePeople(Everybody(), Colors(), tmp_path / 'whole', made_by, batch_size=2)
    whole = evaluate_sets(people, sets)
    assert [f[:4] for f in whole] == [(1, 1, 1, 1)] * 2  # one colour a person, all were detected
    assert [f.queries for f in whole] == [2, 2]
    killed = FramePeople(Everybody(2), Colors(), tmp_path / 'killed', made_by, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        evaluate_sets(killed, sets)
    lines = (tmp_path / 'killed' / 'people.jsonl').read_bytes()
    assert lines.count(b'\n') == 4
    (tmp_path / 'killed' / 'people.jsonl').write_bytes(lines[:-9])  # the last line is cut
    again = FramePeople(Everybody(), Colors(), tmp_path / 'killed', made_by, batch_size=2)
    assert evaluate_sets(again, sets, resume=True) == whole
    assert again.detector.calls == 2
    files = [(tmp_path / name / 'people.jsonl').read_bytes() for name in ('whole', 'killed')]
    assert files[0] == files[1]
    other = FramePeople(Everybody(), Colors(), tmp_path / 'killed', {'detector': 'another'})
    with pytest.raises(ConfigError, match="was made with detector='everybody', not 'another'"):
        evaluate_sets(other, sets, resume=True)
    with pytest.raises(ConfigError, match=r'score_thr=0.01: a number from 0.05 to 1'):
        evaluate_sets(people, sets, 0.01)


def test_the_tool(prw, tmp_path, capsys, monkeypatch):
    from effvit_mm.inference import tracking_options

    def models(args, detector, reid):
        return Everybody(), Colors()

    monkeypatch.setattr(tracking_options, 'open_models', models)
    tool = load_tool('person_search')
    common = [
        '--detector',
        'd.py',
        'd.pth',
        '--reid',
        'r.py',
        'r.pth',
        '--out',
        str(tmp_path / 'o'),
    ]
    assert tool.main(['evaluate-set', 'prw', str(prw), *common]) == 0
    out = capsys.readouterr().out
    assert 'all frames: mAP 100.00 %, top-1 100.00 %' in out and '(2 queries)' in out
    assert tool.main(['evaluate-set', 'prw', str(prw), *common, '--resume', '--other-cameras']) == 0
    assert 'other cameras: mAP 100.00 %' in capsys.readouterr().out
    names = [f'{name}.jpg' for name in FRAMES]
    rows = [((names[0], [0, 10, 26, 60]), [(names[1], [20, 12, 24, 60]), (names[3], None)])]
    for size in (50, 100):
        cuhk_sysu(prw, rows, size)
    (prw / 'Image').mkdir()
    (prw / 'Image' / 'SSM').symlink_to(prw / 'frames')
    sizes = ['--gallery-sizes', '50', '100']
    found = (tmp_path / 'o' / 'people.jsonl').read_bytes()
    assert tool.main(['evaluate-set', 'cuhk-sysu', str(prw), *common, *sizes]) == 2
    assert 'o: there are results of an earlier run: --resume goes' in capsys.readouterr().err
    assert (tmp_path / 'o' / 'people.jsonl').read_bytes() == found
    common.append('--overwrite')
    assert tool.main(['evaluate-set', 'cuhk-sysu', str(prw), *common, *sizes]) == 0
    out = capsys.readouterr().out
    assert 'gallery of 50: mAP 100.00 %' in out and 'gallery of 100: mAP' in out
    for wrong, message in (
        (['prw', str(prw), *common, *sizes], "--gallery-sizes are CUHK-SYSU's, not PRW's"),
        (['cuhk-sysu', str(prw), *common, '--other-cameras'], '--other-cameras is of PRW'),
        (['prw', str(tmp_path), *common], 'frame_test.mat: No such file'),
    ):
        assert tool.main(['evaluate-set', *wrong]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1, error
