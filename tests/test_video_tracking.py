"""People followed through videos: the same whatever interrupts it, wherever boxes come from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import Colors, make_films
from programs import load_tool

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.inference import progress
from effvit_mm.inference.footage import footage_names, open_footage
from effvit_mm.inference.people import CROPS_AT_ONCE
from effvit_mm.inference.track_files import TrackFiles, name_videos
from effvit_mm.inference.tracking import VideoTracker, chosen_labels
from effvit_mm.inference.videos import Image, Video
from effvit_mm.tracking.metrics import evaluate_tracks, find_truths
from effvit_mm.tracking.mot import NO_BOXES, read_boxes, read_mot, write_mot
from effvit_mm.tracking.options import TrackOptions


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    return make_films(tmp_path_factory.mktemp('data') / 'walker_scenes')


@pytest.fixture(scope='module')
def boxes(films):
    return read_boxes(films / 'WS-01' / 'gt' / 'gt.txt')


class Detector:
    """Gives the true boxes of the frames that it is shown, which it tells by their pixels."""

    classes = ('dog', 'person')

    def __init__(self, film, boxes):
        self.known = {
            image.array.tobytes(): boxes.get(image.frame, NO_BOXES) for image in open_footage(film)
        }
        self.calls = []

    def __call__(self, images, batch_size, score_thr):
        self.calls.append(len(images))
        results = []
        for image in images:
            found = self.known[image.tobytes()]
            results.append(
                {
                    'boxes': np.concatenate([found.boxes, [[0, 0, 9, 9]]]).astype(np.float32),
                    'scores': np.append(found.scores, 0.95).astype(np.float32),
                    'labels': np.append(np.ones(len(found.boxes), int), 0),
                }
            )
        return results


class Uneven(Detector):
    """Its boxes depend on the batch, as those of networks do in their last bits."""

    def __call__(self, images, batch_size, score_thr):
        results = super().__call__(images, batch_size, score_thr)
        for place, result in enumerate(results):
            result['boxes'] += 0.01 * (place + len(images))
        return results


class UnevenColors(Colors):
    """Its features likewise."""

    def __call__(self, crops, batch_size):
        found = super().__call__(crops, batch_size)
        found.features[:, 0] += 0.01 * (np.arange(len(crops)) + len(crops))
        return found


class Broken:
    """A video whose reading ends all at a frame."""

    def __init__(self, footage, after):
        self.footage, self.after = footage, after
        self.path, self.fps, self.frames, self.size = (
            footage.path, footage.fps, footage.frames, footage.size,
        )  # fmt: skip

    def read(self, first=0, every=1):
        for image in self.footage.read(first, every):
            if image.frame >= self.after:
                raise KeyboardInterrupt
            yield image


def plain(tracks):
    """Tracks without their features."""
    return [{**vars(track), 'feature': None, 'weight': None} for track in tracks]


def assert_same(tracks, others):
    """To the last bit."""
    assert plain(tracks) == plain(others)
    for track, other in zip(tracks, others, strict=True):
        np.testing.assert_array_equal(track.feature, other.feature)
        assert track.weight == other.weight


def test_true_boxes_give_true_tracks(films, boxes, tmp_path):
    footage = open_footage(films / 'WS-01')
    for name, extractor in (('alone', None), ('joined', Colors())):
        tracks = VideoTracker(None, extractor)(footage, tmp_path / name, boxes=boxes)
        write_mot(tmp_path / name / 'WS-01.txt', tracks)
    truths = {'WS-01': find_truths(films)['WS-01']}
    alone, joined = (evaluate_tracks(truths, tmp_path / n)['all'] for n in ('alone', 'joined'))
    assert alone.MOTA > 90
    assert joined.IDF1 >= alone.IDF1 and joined.IDF1 > 85
    people = read_mot(tmp_path / 'joined' / 'WS-01.txt')
    assert [track.number for track in people] == list(range(1, len(people) + 1))
    assert [track.first for track in people] == sorted(track.first for track in people)


def test_a_detector_gives_the_same_as_its_boxes_in_any_batches(films, boxes, tmp_path):
    film = films / 'WS-01'
    expected = VideoTracker()(open_footage(film), tmp_path / 'boxes', boxes=boxes)
    for size in (1, 5):
        detector = Detector(film, boxes)
        tracker = VideoTracker(detector, batch_size=size)
        found = tracker(open_footage(film), tmp_path / f'batch{size}')
        assert plain(found) == plain(expected)
        assert set(detector.calls[:-1]) == {size}
        assert tracker.frames == open_footage(film).frames
        assert 'detecting' in tracker.report()


@pytest.mark.parametrize('size', [3, 16])  # the second: longer than tracklets wait for an end
def test_what_was_interrupted_ends_as_what_was_not(films, boxes, tmp_path, size):
    footage = open_footage(films / 'WS-01')
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    detector = Uneven(films / 'WS-01', boxes)

    def run(video, folder, resume=True):
        tracker = VideoTracker(detector, UnevenColors(), pictures=True, batch_size=size)
        return tracker(video, folder, resume=resume)

    expected = run(footage, whole, resume=False)
    assert all(track.picture for track in expected)
    for after in (footage.frames // 3, 2 * footage.frames // 3):
        with pytest.raises(KeyboardInterrupt):
            run(Broken(footage, after), parts)
        # Killed in the middle of a batch, while writing a line.
        lines = (parts / 'detections.jsonl').read_text().splitlines(keepends=True)
        (parts / 'detections.jsonl').write_text(''.join(lines[:-1]))
        for name in ('detections.jsonl', 'tracklets.jsonl'):
            with (parts / name).open('a') as file:
                file.write('{"boxes": [[1.0, 2')
    before = sum(detector.calls)
    assert_same(run(footage, parts), expected)
    assert sum(detector.calls) - before < footage.frames // 2  # known frames are not looked at
    before = sum(detector.calls)
    assert_same(run(footage, parts), expected)  # nothing is left to do but a batch that is not full
    assert sum(detector.calls) - before < size
    for name in ('detections.jsonl', 'tracklets.jsonl'):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    for picture in (whole / 'pictures').iterdir():
        assert picture.read_bytes() == (parts / 'pictures' / picture.name).read_bytes()
    # Without resume all begins anew.
    before = sum(detector.calls)
    assert_same(run(footage, parts, resume=False), expected)
    assert sum(detector.calls) - before == footage.frames


def test_frames_that_are_passed_over_are_filled_in(films, boxes, tmp_path):
    footage = open_footage(films / 'WS-01')
    assert [image.frame for image in footage.read(4, 3)] == list(range(4, footage.frames, 3))
    for image, other in zip(footage.read(4, 7), list(footage)[4::7], strict=True):
        np.testing.assert_array_equal(image.array, other.array)
    detector = Detector(films / 'WS-01', boxes)

    def run(video, folder):
        tracker = VideoTracker(detector, Colors(), TrackOptions(every=2), batch_size=3)
        return tracker(video, tmp_path / folder, resume=True)

    tracks = run(footage, 'whole')
    assert sum(detector.calls) == -(-footage.frames // 2)
    write_mot(tmp_path / 'WS-01.txt', tracks)
    figures = evaluate_tracks({'WS-01': find_truths(films)['WS-01']}, tmp_path)['all']
    assert figures.MOTA > 85 and figures.IDF1 > 80
    for after in (footage.frames // 3, 2 * footage.frames // 3):
        with pytest.raises(KeyboardInterrupt):
            run(Broken(footage, after), 'parts')
    assert_same(run(footage, 'parts'), tracks)


def test_without_a_terminal_lines_say_how_far_it_is(films, boxes, tmp_path, capsys, monkeypatch):
    footage = open_footage(films / 'WS-01')
    monkeypatch.setattr(progress, 'SILENCE', 0.0)
    VideoTracker()(footage, tmp_path / 'quiet', boxes=boxes)
    assert capsys.readouterr().err == ''
    VideoTracker()(footage, tmp_path / 'told', boxes=boxes, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == footage.frames - 1
    line = rf'tracking WS-01\.avi: 1 of {footage.frames}, \d+:\d\d:\d\d to go, \S+ a second'
    assert re.fullmatch(line, lines[0])
    monkeypatch.setattr(progress, 'SILENCE', 60.0)
    VideoTracker()(footage, tmp_path / 'fast', boxes=boxes, progress=True)
    assert capsys.readouterr().err == ''


def test_a_folder_has_one_video(films, boxes, tmp_path):
    tracker = VideoTracker()
    tracker(open_footage(films / 'WS-01'), tmp_path, boxes=boxes)
    with pytest.raises(ConfigError, match=r"video='.*WS-01\.avi', not '.*WS-02\.avi'"):
        tracker(open_footage(films / 'WS-02'), tmp_path, boxes=boxes, resume=True)


def test_pictures_wait_in_small_batches(films, boxes, tmp_path):
    extractor = Colors()
    tracker = VideoTracker(None, extractor, TrackOptions(period=0.1))
    tracker(open_footage(films / 'WS-01'), tmp_path, boxes=boxes)
    assert sum(extractor.sizes) > 3 * CROPS_AT_ONCE  # one for nearly each box
    assert max(extractor.sizes) <= CROPS_AT_ONCE


def test_a_folder_of_images_is_a_video(films, boxes, tmp_path):
    video = Video(films / 'WS-01' / 'WS-01.avi')
    folder = tmp_path / 'MOT-01'
    (folder / 'img1').mkdir(parents=True)
    for image in video:
        cv2.imwrite(str(folder / 'img1' / f'{image.frame + 1:06d}.png'), image.array)
    (folder / 'seqinfo.ini').write_text(
        f'[Sequence]\nname=MOT-01\nimDir=img1\nframeRate=10\nseqLength={video.frames}\nimExt=.png\n'
    )
    footage = open_footage(folder)
    assert (footage.size, footage.fps, footage.frames) == (video.size, video.fps, video.frames)
    for number, source in enumerate((video, footage)):
        tracks = VideoTracker(None, Colors())(source, tmp_path / f'{number}', boxes=boxes)
        write_mot(tmp_path / f'{number}.txt', tracks)
    assert (tmp_path / '0.txt').read_bytes() == (tmp_path / '1.txt').read_bytes()
    (folder / 'img1' / '000007.png').unlink()
    with pytest.raises(DataError, match=r'000007\.png'):
        list(footage)
    with pytest.raises(DataError, match=r'seqinfo\.ini: no such file'):
        open_footage(tmp_path)


def test_videos_of_one_name_have_names_of_their_own():
    assert footage_names(['a/x.mp4', 'b/x.mp4', 'y.avi', 'x.mp4']) == ['x', 'x_2', 'y', 'x_3']


def test_a_video_keeps_its_name_in_a_folder(films, tmp_path):
    films = [films / name for name in ('WS-01', 'WS-02')]
    other = tmp_path / 'other' / 'WS-01'
    shutil.copytree(films[0], other)
    work, videos = tmp_path / 'work', [*films, other]
    footage = [open_footage(video) for video in videos]
    assert name_videos(work, videos, footage) == ['WS-01', 'WS-02', 'WS-01_2']
    TrackFiles(work / 'WS-01', footage[2], resume=True)  # the last was begun first, alone
    assert name_videos(work, videos, footage) == ['WS-01_2', 'WS-02', 'WS-01']
    assert name_videos(work, videos[2:] * 2, footage[2:] * 2) == ['WS-01', 'WS-01_2']
    (work / 'WS-01' / 'settings.json').write_text('[]')
    with pytest.raises(DataError, match=r'settings\.json cannot be read: it holds no settings'):
        name_videos(work, videos, footage)


def test_people_are_followed_where_a_detector_knows_more():
    assert chosen_labels(('dog', 'person', 'car'), None) == [1]
    assert chosen_labels(('dog', 'cat'), None) == [0, 1]
    assert chosen_labels(('dog', 'cat'), ['cat']) == [1]
    with pytest.raises(ConfigError, match="'bird': the detector has dog, cat"):
        chosen_labels(('dog', 'cat'), ['bird'])


@pytest.mark.parametrize(
    'wrong, message',
    [
        ({'period': 0}, 'period=0'),
        ({'score_thr': 2}, 'score_thr=2'),
        ({'min_frames': 0}, 'min_fr'),
        ({'every': 0}, 'every=0: 1 or'),
    ],
)
def test_options_are_checked(wrong, message):
    with pytest.raises(ConfigError, match=message):
        TrackOptions(**wrong)


# The tool ----------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def track():
    return load_tool('track')


def test_the_tool_writes_texts_and_drawn_videos(films, tmp_path, track, capsys):
    names = ('WS-01', 'WS-02')
    videos = [str(films / name) for name in names]
    files = [str(films / name / 'gt' / 'gt.txt') for name in names]
    out = tmp_path / 'out'
    arguments = [*videos, '--boxes', *files, '--out', str(out), '--draw']
    assert track.main(arguments) == 0
    for name in names:
        footage = open_footage(films / name)
        drawn = Video(out / f'{name}.mp4')
        assert (drawn.size, drawn.frames) == (footage.size, footage.frames)
        assert len(read_mot(out / f'{name}.txt')) >= 4
    capsys.readouterr()
    times = {path: path.stat().st_mtime_ns for path in out.glob('*.*')}
    assert track.main([*arguments, '--resume']) == 0
    assert 'nothing was left to do' in capsys.readouterr().out
    unchanged = {p: t for p, t in times.items() if p.name != 'settings.json'}
    assert unchanged == {path: path.stat().st_mtime_ns for path in unchanged}
    assert track.main([*arguments, '--resume', '--certain', '0.7']) == 2
    assert 'was made with certain=0.6, not 0.7' in capsys.readouterr().err
    for flags, message in (
        ([], f'--out {out}: there are results of an earlier run: --resume goes on'),
        (['--resume', '--overwrite'], '--resume, --overwrite: only one of them can be'),
    ):
        assert track.main([*arguments, '--certain', '0.7', *flags]) == 2
        assert message in capsys.readouterr().err
        assert unchanged == {path: path.stat().st_mtime_ns for path in unchanged}
    assert track.main([*arguments, '--certain', '0.7', '--overwrite']) == 0
    assert all(path.stat().st_mtime_ns > time for path, time in unchanged.items())


def test_tracks_are_judged_side_by_side(films, tmp_path, track, capsys):
    for name, arguments in (('one', []), ('two', ['--min-frames', '30'])):
        film = films / 'WS-01'
        boxes = str(film / 'gt' / 'gt.txt')
        arguments = [str(film), '--boxes', boxes, '--out', str(tmp_path / name), *arguments]
        assert track.main(arguments) == 0
    evaluate = load_tool('analysis_tools/evaluate_tracks')
    out = tmp_path / 'figures.json'
    arguments = [str(films / 'WS-01'), str(tmp_path / 'one'), str(tmp_path / 'two')]
    capsys.readouterr()
    assert evaluate.main([*arguments, '--out', str(out)]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 2 + 2 * 2
    figures = json.loads(out.read_text())
    assert figures[arguments[1]]['all']['MOTA'] > figures[arguments[2]]['all']['MOTA'] > 0
    assert evaluate.main([str(films), str(tmp_path / 'one')]) == 2
    assert re.search(r'WS-02\.txt: no such file: .* has WS-01\.txt\n', capsys.readouterr().err)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['a.avi', 'b.avi', '--boxes', 'x.txt'], '--boxes: 1 files for 2 videos'),
        (['a.avi', '--boxes', 'x.txt'], 'video a.avi: no such file'),
        (['config.py'], 'config.py: after it weights and a video are needed'),
        (['{film}', '--boxes', 'gone.txt'], 'gone.txt cannot be read'),
        (['{film}', '--boxes', '{boxes}', '--classes', 'x'], '--classes goes with a detector'),
        (['{film}', '--boxes', '{boxes}', '--lost', '0'], 'lost=0'),
    ],
)
def test_what_cannot_be_is_said_in_a_line(films, tmp_path, track, capsys, arguments, message):
    film = str(films / 'WS-01')
    places = {'film': film, 'boxes': str(Path(film) / 'gt' / 'gt.txt')}
    arguments = [argument.format(**places) for argument in arguments]
    assert track.main([*arguments, '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_frames_come_with_their_pixels(films):
    image = next(iter(open_footage(films / 'WS-02')))
    assert isinstance(image, Image) and image.frame == 0
    assert image.array.shape == (240, 320, 3) and image.array.dtype == np.uint8


def test_the_benchmark_of_an_hour(films, tmp_path):
    from benchmarks import hour_of_video

    count = hour_of_video.make_video(films, tmp_path / 'hour.mp4', 0.02)
    video = Video(tmp_path / 'hour.mp4')
    assert (count, video.size, video.fps) == (18, (480, 640), 15)
    assert len(list(video)) == 18
    first = [image.array for image in open_footage(films / 'WS-01')][:4]
    for large, frame in zip(
        hour_of_video.repeated([Video(films / 'WS-01' / 'WS-01.avi')]),
        (0, 1, 1, 2, 3, 3),
        strict=False,
    ):
        np.testing.assert_array_equal(
            large, cv2.resize(first[frame], (640, 480), interpolation=cv2.INTER_CUBIC)
        )
    for name in ('whole', 'killed'):
        for part in ('tracks', 'work/hour/pictures'):
            (tmp_path / name / part).mkdir(parents=True)
        (tmp_path / name / 'gallery').write_bytes(b'1')
        (tmp_path / name / 'tracks' / 'hour.txt').write_bytes(name.encode())
    told = hour_of_video.compare([tmp_path / 'whole', tmp_path / 'killed'], 'hour')
    assert told == 'gallery (1) equal, tracks (1) NOT EQUAL, pictures (0) equal'


# Does what the tool does to its files, but for the time and the results.
STAND_IN = """
import sys, time
from pathlib import Path

_, command, video, *flags = sys.argv
out, name = Path(flags[flags.index('--out') + 1]), Path(video).stem
for folder in (out / 'tracks', out / 'work' / name / 'pictures'):
    folder.mkdir(parents=True, exist_ok=True)
boxes = out / 'work' / name / 'detections.jsonl'
known = len(boxes.read_text().splitlines()) if '--resume' in flags else 0
with (out / 'calls').open('a' if '--resume' in flags else 'w') as file:
    file.write(f'{command} {known}\\n')
with boxes.open('a' if '--resume' in flags else 'w') as file:
    for number in range(known, 30):
        print('{}', file=file, flush=True)
        time.sleep(0.02)
(out / 'gallery').write_text(str(known if '--uneven' in flags else 'the same'))
(out / 'tracks' / f'{name}.txt').write_text('1')
"""


def test_the_benchmark_kills_twice_and_compares(films, tmp_path, monkeypatch, capsys):
    from benchmarks import hour_of_video

    tool, out = tmp_path / 'tool.py', tmp_path / 'out'
    tool.write_text(STAND_IN)
    monkeypatch.setattr(hour_of_video, 'TOOL', tool)
    monkeypatch.setattr(hour_of_video, 'PAUSE', 0.02)
    arguments = ['--films', str(films), '--out', str(out), '--minutes', '0.1', '--every', '3']
    assert hour_of_video.main(arguments) == 0
    whole, killed, told = capsys.readouterr().out.splitlines()
    assert whole.startswith('whole: 90 frames, ') and killed.startswith('killed: 90 frames, ')
    assert re.search(r'\(\d+ s, \d+ s, \d+ s\)', killed)
    assert told == 'gallery (1) equal, tracks (1) equal, pictures (0) equal'
    assert (out / 'whole' / 'calls').read_text() == 'index 0\n'
    calls = [line.split() for line in (out / 'killed' / 'calls').read_text().splitlines()]
    known = [int(number) for _, number in calls]
    assert known[0] == 0 and 10 <= known[1] < 20 <= known[2] < 30 and len(known) == 3
    assert hour_of_video.main([*arguments, '--uneven', '--runs', 'killed', 'whole']) == 1
    assert 'gallery (1) NOT EQUAL' in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r'tool\.py index .* ended with 0'):
        hour_of_video.index(out / 'hour.mp4', out / 'short', [], False, kill_at=31)
