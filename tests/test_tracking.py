"""Tracks: numbers stay with people, pieces that look alike are joined, files and figures hold."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.tracking import Tracker, Tracklet, join_tracklets
from effvit_mm.tracking.metrics import as_table, evaluate_tracks, find_truths
from effvit_mm.tracking.mot import read_boxes, read_mot, read_sequence, write_mot
from effvit_mm.tracking.quality import crop_qualities, visible_area
from effvit_mm.tracking.search_metrics import average_precision, box_ious, name_tracks
from effvit_mm.tracking.tracklets import filled

FPS = 10


def walk(x, y=50.0, step=6.0, frames=20, size=(20, 50)):
    """Boxes of somebody who walks: (frames, 4)."""
    left = x + step * np.arange(frames)
    return np.stack([left, np.full(frames, y), left + size[0], np.full(frames, y + size[1])], 1)


def follow(tracker, ways, scores=None, seed=0):
    """Numbers of each way in each frame, its boxes being given in a random order."""
    generator = np.random.default_rng(seed)
    numbers = []
    for frame in range(max(map(len, ways))):
        there = [n for n, way in enumerate(ways) if frame < len(way) and np.isfinite(way[frame, 0])]
        order = generator.permutation(there).astype(int)
        boxes = np.array([ways[n][frame] for n in order], np.float32).reshape(-1, 4)
        certain = np.array([0.9 if scores is None else scores[n][frame] for n in order])
        found = tracker.update(boxes, certain)
        numbers.append([int(found[list(order).index(n)]) if n in order else None for n in there])
    return numbers


# Following ---------------------------------------------------------------------------------------


def test_numbers_stay_with_people_who_cross():
    numbers = follow(Tracker(FPS), [walk(0), walk(120, y=80.0, step=-6.0), walk(200, y=10.0)])
    assert numbers[0] == [-1, -1, -1]  # the second frame confirms
    assert all(row == numbers[1] for row in numbers[1:])
    assert sorted(numbers[1]) == [0, 1, 2]


def test_who_is_hidden_for_less_than_lost_seconds_keeps_the_number():
    for hidden, same in ((4, True), (14, False)):
        way = walk(0, step=2.0, frames=40)
        way[10 : 10 + hidden] = np.nan
        numbers = [row[0] for row in follow(Tracker(FPS, lost=1.0), [way]) if row]
        assert (numbers[9] == numbers[-1]) is same


def test_uncertain_boxes_continue_tracks_and_begin_none():
    scores = [[0.9] * 5 + [0.3] * 15, [0.3] * 20]
    numbers = np.array(follow(Tracker(FPS), [walk(0), walk(0, y=150.0)], scores))
    assert (numbers[1:, 0] == numbers[1, 0]).all() and numbers[1, 0] >= 0
    assert (numbers[:, 1] == -1).all()


def test_frames_without_anybody_are_frames():
    tracker = Tracker(FPS)
    empty = np.empty((0, 4))
    assert tracker.update(empty, np.empty(0)).shape == (0,)
    assert follow(tracker, [walk(0)])[-1] == [0]
    for _ in range(tracker.patience + 1):
        assert tracker.update(empty, np.empty(0)).shape == (0,)
    assert follow(tracker, [walk(0)])[-1] == [1]


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'fps': 0}, 'fps=0'),
        ({'fps': FPS, 'certain': 1.5}, 'certain=1.5'),
        ({'fps': FPS, 'lost': 0}, 'lost=0'),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Tracker(**arguments)


def test_boxes_that_cannot_be_are_refused():
    with pytest.raises(DataError, match=r'boxes \(1, 3\)'):
        Tracker(FPS).update(np.zeros((1, 3)), np.ones(1))
    with pytest.raises(DataError, match='finite'):
        Tracker(FPS).update(np.full((1, 4), np.nan), np.ones(1))


# Joining -----------------------------------------------------------------------------------------


def piece(number, frames, feature, weight=1.0, quality=1.0):
    frames = list(frames)
    boxes = walk(number, frames=len(frames)).tolist()
    feature = None if feature is None else np.array(feature, np.float32)
    return Tracklet(
        number, frames, boxes, [0.9] * len(frames), feature, weight if feature is not None else 0.0,
        frames[0], boxes[0], quality, f'{number}.jpg',
    )  # fmt: skip


RED, REDDISH, BLUE = (1.0, 0.0), (0.95, 0.1), (0.0, 1.0)


def members(tracks, pieces):
    """Which pieces each track is made of."""
    return [
        [p.number for p in pieces if set(p.frames) <= set(t.frames) and p.boxes[0] in t.boxes]
        for t in tracks
    ]


def test_pieces_that_look_alike_and_follow_each_other_are_one():
    pieces = [
        piece(7, range(10), RED, weight=3.0, quality=2.0),
        piece(8, range(4, 14), BLUE),
        piece(9, range(20, 30), REDDISH, quality=5.0),
    ]
    tracks = join_tracklets(pieces, FPS, max_gap=1.0, max_distance=0.1)
    assert members(tracks, pieces) == [[7, 9], [8]]
    assert [track.number for track in tracks] == [1, 2]
    assert tracks[0].frames == [*range(10), *range(20, 30)]
    assert (tracks[0].picture, tracks[0].best, tracks[0].quality) == ('9.jpg', 20, 5.0)
    np.testing.assert_allclose(tracks[0].feature, (3 * np.array(RED) + REDDISH) / 4, rtol=1e-6)
    assert tracks[0].weight == 4.0


@pytest.mark.parametrize(
    'second, why',
    [
        (piece(2, range(21, 30), RED), 'eleven frames lie between'),
        (piece(2, range(9, 20), RED), 'one frame has both'),
        (piece(2, range(12, 20), BLUE), 'they look different'),
        (piece(2, range(12, 20), None), 'nobody knows what it looks like'),
    ],
)
def test_others_stay_two(second, why):
    pieces = [piece(1, range(10), RED), second]
    assert len(join_tracklets(pieces, FPS, max_gap=1.0, max_distance=0.2)) == 2, why
    near = [pieces[0], piece(2, range(20, 30), RED)]
    assert len(join_tracklets(near, FPS, max_gap=1.0, max_distance=0.2)) == 1


def test_the_nearest_pair_is_joined_first():
    first, likely, less = (
        piece(1, range(10), RED), piece(2, range(12, 20), (1.0, 0.05)),
        piece(3, range(11, 20), REDDISH),
    )  # fmt: skip
    for order in itertools.permutations([first, likely, less]):
        tracks = join_tracklets(order, FPS, max_gap=1.0, max_distance=0.2)
        assert members(tracks, [first, likely, less]) == [[1, 2], [3]]


def test_a_chain_of_pieces_is_joined_though_its_ends_are_far_apart():
    pieces = [piece(n, range(20 * n, 20 * n + 12), RED) for n in range(5)]
    assert len(join_tracklets(pieces, FPS, max_gap=1.0)) == 1
    # ... but for a frame that the ends share with somebody of the chain.
    pieces.append(piece(9, [95, *range(112, 120)], RED))
    assert len(join_tracklets(pieces, FPS, max_gap=1.0)) == 1
    pieces.append(piece(10, [*range(50, 60), *range(121, 130)], RED))
    assert len(join_tracklets(pieces, FPS, max_gap=1.0)) == 2


def test_arguments_of_joining_are_checked():
    with pytest.raises(ConfigError, match='max_gap=-1'):
        join_tracklets([], FPS, max_gap=-1)
    with pytest.raises(ConfigError, match='max_distance=3'):
        join_tracklets([], FPS, max_distance=3)


def test_a_tracklet_comes_back_from_its_text():
    tracklet = piece(3, range(4), (1 / 3, 0.1))
    again = Tracklet.from_dict(json.loads(json.dumps(tracklet.to_dict())))
    np.testing.assert_array_equal(again.feature, tracklet.feature)
    assert {**vars(again), 'feature': 0} == {**vars(tracklet), 'feature': 0}


# Quality -----------------------------------------------------------------------------------------


def test_what_is_sharp_large_certain_and_in_front_counts_more():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (100, 200, 3), dtype=np.uint8)
    image[:, 100:] = 128
    boxes = np.array([[0, 0, 20, 40], [100, 0, 120, 40], [40, 0, 60, 80], [0, 50, 20, 90]], float)
    scores = np.array([0.9, 0.9, 0.9, 0.45])
    crops = [image[int(t) : int(b), int(x) : int(r)] for x, t, r, b in boxes]
    sharp, flat, large, doubtful = crop_qualities(image, crops, boxes, scores)
    assert flat < 1e-3 * sharp
    assert large / sharp == pytest.approx(2, rel=0.1)
    assert doubtful / sharp == pytest.approx(0.5, rel=0.1)
    both = np.array([[0, 0, 20, 40], [10, 10, 30, 60]], float)
    assert visible_area(0, both) == 20 * 40 - 10 * 30
    assert visible_area(1, both) == 20 * 50


# Files -------------------------------------------------------------------------------------------


def test_tracks_come_back_from_mot_text(tmp_path):
    tracks = [piece(2, [0, 1, 5], None), piece(1, [1, 2], None)]
    path = tmp_path / 'a.txt'
    write_mot(path, tracks)
    lines = path.read_text().splitlines()
    assert [line.split(',')[:2] for line in lines] == [
        ['1', '2'], ['2', '1'], ['2', '2'], ['3', '1'], ['6', '2'],
    ]  # fmt: skip
    for track, expected in zip(read_mot(path), sorted(tracks, key=lambda t: t.number), strict=True):
        assert (track.number, track.frames) == (expected.number, expected.frames)
        np.testing.assert_allclose(track.boxes, expected.boxes, atol=0.01)


@pytest.mark.parametrize(
    'text, message',
    [
        ('1,2,3\n', "line 1: '1,2,3'"),
        ('1,-1,0,0,5,5,1\n0,-1,0,0,5,5,1\n', 'line 2: frame 0'),
        ('1,-1,0,0,x,5,1\n', 'line 1'),
        ('1,-1,0,0,nan,5,1\n', 'line 1'),
    ],
)
def test_a_line_of_another_kind_is_named(tmp_path, text, message):
    path = tmp_path / 'det.txt'
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_boxes(path)
    with pytest.raises(DataError, match=r'gone\.txt cannot be read'):
        read_boxes(tmp_path / 'gone.txt')


def test_boxes_of_mot_and_coco_are_the_same(tmp_path):
    mot, results, truth = (tmp_path / n for n in ('det.txt', 'results.json', 'truth.json'))
    mot.write_text('1,-1,10,20,30,40,0.5\n3,-1,1,2,3,4,0.25\n')
    rows = [
        {'image_id': 1, 'category_id': 1, 'bbox': [10, 20, 30, 40], 'score': 0.5},
        {'image_id': 3, 'category_id': 1, 'bbox': [1, 2, 3, 4], 'score': 0.25},
    ]
    results.write_text(json.dumps(rows))
    images = [{'id': 7, 'file_name': 'img1/000001.jpg'}, {'id': 9, 'file_name': 'clip_0003.jpg'}]
    annotations = [{**row, 'image_id': {1: 7, 3: 9}[row['image_id']]} for row in rows]
    annotations.append({**annotations[0], 'iscrowd': 1})
    truth.write_text(json.dumps({'images': images, 'annotations': annotations}))
    for path in (mot, results, truth):
        found = read_boxes(path)
        assert sorted(found) == [0, 2]
        np.testing.assert_array_equal(found[0].boxes, [[10, 20, 40, 60]])
        np.testing.assert_array_equal(found[2].scores, [0.25])
    truth.write_text('{"images": []}')
    with pytest.raises(DataError, match='annotations'):
        read_boxes(truth)


def test_of_true_boxes_those_that_count_are_read(tmp_path):
    path = tmp_path / 'gt' / 'gt.txt'
    path.parent.mkdir()
    path.write_text('1,5,10,20,30,40,1,1,0.3\n2,5,10,20,30,40,0,1,0.1\n')
    assert list(read_boxes(path)) == [0]
    assert read_boxes(path)[0].scores.tolist() == [1.0]


def test_a_sequence_says_its_rate_and_images(tmp_path):
    (tmp_path / 'seqinfo.ini').write_text(
        '[Sequence]\nname=MOT17-02-FRCNN\nimDir=img1\nframeRate=30\nseqLength=600\nimExt=.jpg\n'
    )
    info = read_sequence(tmp_path)
    assert (info.name, info.fps, info.frames, info.video) == ('MOT17-02-FRCNN', 30.0, 600, None)
    assert info.image(0) == tmp_path / 'img1' / '000001.jpg'
    (tmp_path / 'seqinfo.ini').write_text('[Sequence]\nname=a\n')
    with pytest.raises(DataError, match='seqLength'):
        read_sequence(tmp_path)
    with pytest.raises(DataError, match='no such file'):
        read_sequence(tmp_path / 'gone')


# Figures -----------------------------------------------------------------------------------------


def write_sequence(root, truth, found, name='S'):
    """Rows (frame, id, box) of truth and tracks as files; gives the truths and the folder."""
    gt = root / 'truth' / name / 'gt' / 'gt.txt'
    for path, rows in ((gt, truth), (root / 'found' / f'{name}.txt', found)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            ''.join(f'{f},{n},{x},{y},{r - x},{b - y},1,1,1\n' for f, n, (x, y, r, b) in rows)
        )
    return find_truths(root / 'truth'), root / 'found'


def test_figures_of_a_number_that_changes_once(tmp_path):
    boxes = walk(0, frames=10).tolist()
    truth = [(f, 1, box) for f, box in enumerate(boxes, 1)]
    found = [(f, 1 if f <= 5 else 2, box) for f, box in enumerate(boxes, 1)]
    figures = evaluate_tracks(*write_sequence(tmp_path, truth, found))
    assert figures['S'] == figures['all']
    one = figures['S']
    # One switch in ten boxes; half of the person's way has the best number.
    assert (one.MOTA, one.IDF1, one.switches) == pytest.approx((90.0, 50.0, 1))
    assert (one.DetA, one.AssA, one.HOTA) == pytest.approx((100.0, 50.0, 100 * 0.5**0.5))


def hota(truth, found):
    """Luiten et al. (2021), equations 3 to 5 and 7, 8, by plain loops; one box a person and frame.

    Boxes here overlap one other at most, so that the matching is the only one there is.
    """
    values = []
    for alpha in np.arange(0.05, 0.99, 0.05):
        pairs = [
            (a, b)
            for a in truth
            for b in found
            if a[0] == b[0] and box_ious([a[2]], [b[2]])[0, 0] >= alpha
        ]
        tp, fn, fp = len(pairs), len(truth) - len(pairs), len(found) - len(pairs)
        total = 0.0
        for a, b in pairs:
            tpa = sum(x[1] == a[1] and y[1] == b[1] for x, y in pairs)
            fna = sum(x[1] == a[1] for x in truth) - tpa
            fpa = sum(y[1] == b[1] for y in found) - tpa
            total += tpa / (tpa + fna + fpa)
        values.append((total / (tp + fn + fp)) ** 0.5)
    return 100 * float(np.mean(values))


def test_hota_is_the_papers(tmp_path):
    generator = np.random.default_rng(3)
    truth, found = [], []
    for person in range(4):
        for frame in range(1, 31):
            box = np.array([100 * person, 0, 100 * person + 30, 60.0])
            if generator.random() < 0.9:
                truth.append((frame, person + 1, box.tolist()))
            if generator.random() < 0.8:
                number = person + 1 if frame < 12 + person else person + 11
                number = 40 + person % 2 if frame > 25 and person != 1 else number
                if (frame, number) not in {(f, n) for f, n, _ in found}:
                    found.append((frame, number, (box + generator.uniform(-6, 6, 4)).tolist()))
    truths, folder = write_sequence(tmp_path, truth, found)
    with pytest.raises(DataError, match=r'T\.txt: no such file: .* name of their sequence.* has S'):
        evaluate_tracks({'T': truths['S']}, folder)
    figures = evaluate_tracks(truths, folder)['S']
    assert pytest.approx(hota(truth, found), abs=0.01) == figures.HOTA


def test_files_without_a_track_count_as_misses(tmp_path):
    truth = [(1, 1, [0, 0, 10, 20]), (2, 1, [0, 0, 10, 20])]
    figures = evaluate_tracks(*write_sequence(tmp_path, truth, []))['S']
    assert (figures.HOTA, figures.MOTA, figures.IDF1) == (0, 0, 0)
    table = as_table({'mine': {'S': figures}})
    assert table.splitlines()[-1].startswith('| mine | S | 0.0 |')
    with pytest.raises(DataError, match='no sequence with gt'):
        find_truths(tmp_path / 'found')
    with pytest.raises(DataError, match=r'gone/S\.txt: no such file: .* has none'):
        evaluate_tracks(find_truths(tmp_path / 'truth'), tmp_path / 'gone')


def test_a_track_is_whose_boxes_it_has(tmp_path):
    truth = [piece(31, range(10), None), piece(32, range(10), None)]
    truth[1].boxes = walk(0, y=200.0, frames=10).tolist()
    mixed = piece(1, range(10), None)
    mixed.boxes = truth[0].boxes[:6] + truth[1].boxes[6:]
    halves = piece(2, range(10), None)
    halves.boxes = truth[0].boxes[:5] + truth[1].boxes[5:]
    nobody = piece(3, range(10), None)
    nobody.boxes = walk(0, y=400.0, frames=10).tolist()
    assert name_tracks([mixed, halves, nobody], truth) == {1: 31, 2: -1, 3: -1}


def test_boxes_between_those_that_were_looked_at():
    track = piece(1, [0, 3, 6, 12, 13], None)
    track.boxes = [[float(frame)] * 4 for frame in (0, 30, 60, 90, 93)]
    track.scores = [0.3, 0.9, 0.6, 0.5, 0.7]
    found = filled(track, 3)
    assert found.frames == [0, 1, 2, 3, 4, 5, 6, 12, 13]  # six frames without a box stay empty
    expected = [0, 10, 20, 30, 40, 50, 60, 90, 93]
    np.testing.assert_allclose(found.boxes, np.repeat(np.array([expected]).T, 4, 1), atol=1e-9)
    np.testing.assert_allclose(found.scores[:4], [0.3, 0.5, 0.7, 0.9], atol=1e-9)
    assert found.boxes[3] == track.boxes[1]  # to the last bit
    assert filled(track, 1) is track


def test_joining_compares_only_what_is_near_in_time(monkeypatch):
    from effvit_mm.tracking import joining

    generator = np.random.default_rng(0)
    compared = []
    measure = joining.cosine_distance
    monkeypatch.setattr(
        joining, 'cosine_distance', lambda a, b: compared.append(None) or measure(a, b)
    )
    pieces = [
        piece(n, range(12 * n, 12 * n + 10), generator.standard_normal(3)) for n in range(300)
    ]
    tracks = join_tracklets(pieces, FPS, max_gap=1.0, max_distance=0.3)
    assert len(compared) < 5 * len(pieces)
    # The nearest pair of all first, by trying all pairs each time.
    clusters = [[p] for p in pieces]
    while True:
        pairs = [
            (measure(*(sum(p.feature * p.weight for p in c) for c in pair)), *pair)
            for pair in itertools.pairwise(sorted(clusters, key=lambda c: c[0].first))
        ]
        distance, first, second = min(pairs, key=lambda pair: pair[0])
        if distance > 0.3:
            break
        clusters.remove(second)
        first += second
    expected = sorted(sorted(f for p in c for f in p.frames) for c in clusters)
    assert sorted(track.frames for track in tracks) == expected and len(tracks) < 250


def test_average_precision_of_places():
    ranked = [(5, 'b'), (9, 'b'), (5, 'b'), (-1, 'c'), (5, 'c'), (5, 'd')]
    # Found at ranks 1, and, the second track of b being passed over, at 4 and 5.
    assert average_precision(ranked, 5, 'bcd') == pytest.approx((1 + 2 / 4 + 3 / 5) / 3)
    assert average_precision(ranked, 5, 'bcde') == pytest.approx((1 + 2 / 4 + 3 / 5) / 4)
    assert average_precision([], 5, 'b') == 0
