"""A person is found in videos, where and when."""

from __future__ import annotations

import dataclasses
import shutil
import warnings

import cv2
import numpy as np
import pytest
from films import Colors, make_films
from people import make_people, write_people_config
from programs import load_tool
from remedies import tries

import effvit_mm
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.inference.passages import as_shown, cut_passages
from effvit_mm.inference.person_search import PersonSearch, clock, read_clock
from effvit_mm.inference.search_evaluation import draw_queries, evaluate_search
from effvit_mm.inference.tracking import VideoTracker
from effvit_mm.inference.videos import Video
from effvit_mm.reid.expansion import QueryExpansion
from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.galleries import KINDS, create_gallery, finish
from effvit_mm.reid.search import Gallery
from effvit_mm.reid.where import Where
from effvit_mm.tracking.mot import read_boxes, read_mot
from effvit_mm.tracking.search_metrics import name_tracks

NAMES = ('WS-01', 'WS-02', 'WS-03')


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    return make_films(tmp_path_factory.mktemp('data') / 'walker_scenes')


def index(films, folder, names=NAMES, extractor=None, kind='exact', **options):
    """The videos followed by their true boxes."""
    extractor = extractor or Colors()
    people = PersonSearch(folder, extractor, kind=kind)
    boxes = [read_boxes(films / name / 'gt' / 'gt.txt') for name in names]
    tracker = VideoTracker(None, extractor, pictures=True)
    people.index([films / name for name in names], tracker, boxes=boxes, **options)
    return people


@pytest.fixture(scope='module')
def found(films, tmp_path_factory):
    starts = [read_clock('9:58'), read_clock('10:00'), read_clock('12:00')]
    return index(films, tmp_path_factory.mktemp('found') / 'found', starts=starts)


def query(films, camera):
    """A picture of somebody, and who it is."""
    path = sorted((films / 'queries').glob(f'*_c{camera}s1_*.jpg'))[1]
    return str(path), int(path.name[:4])


def test_the_passage_that_a_picture_is_of_comes_first(films, found):
    for camera, name in enumerate(NAMES, start=1):
        named = name_tracks(
            read_mot(found.folder / 'tracks' / f'{name}.txt'),
            read_mot(films / name / 'gt' / 'gt.txt'),
        )
        picture, person = query(films, camera)
        [tracks] = found.search(picture, 3)
        first = tracks[0]
        assert (first.rank, first.camera, first.video[-9:]) == (1, camera, f'{name}.avi')
        assert named[first.track] == person
        assert tracks[0].distance <= tracks[1].distance
        [track] = [
            t for t in read_mot(found.folder / 'tracks' / f'{name}.txt') if t.number == first.track
        ]
        assert (first.first, first.last) == (track.first, track.last)
        assert first.best in track.frames
        box = track.boxes[track.frames.index(first.best)]
        np.testing.assert_allclose(first.box, box, atol=0.01)
        shown = cv2.imread(first.picture)
        assert abs(shown.shape[0] - (min(box[3], 240) - max(box[1], 0))) <= 1


def test_a_gallery_in_a_folder_gives_the_same_tracks(films, found, tmp_path):
    copy = tmp_path / 'found'
    shutil.copytree(found.folder, copy)
    (copy / 'gallery').unlink()
    for path in (copy / 'tracks').iterdir():
        path.unlink()
    starts = [read_clock('9:58'), read_clock('10:00'), read_clock('12:00')]
    people = index(films, copy, starts=starts, kind='large')
    assert (copy / 'gallery' / 'gallery.json').is_file() and len(people.gallery) > 4
    for again in (people, PersonSearch(copy, Colors())):
        for choice in ({}, {'camera': [1, 3]}, {'not_camera': 1, 'begin': read_clock('11:00')}):
            picture, _ = query(films, 1)
            [expected], [tracks] = (p.search(picture, 5, **choice) for p in (found, again))
            assert [(t.video, t.track, t.box, t.begin) for t in tracks] == [
                (t.video, t.track, t.box, t.begin) for t in expected
            ]
            assert again.name_of(tracks[0]) == found.name_of(expected[0])
        with pytest.raises(DataError, match='there are cameras 1, 2, 3, from 9:58:00-12:00'):
            again.search(picture, camera=4)


def test_only_cameras_and_times_that_were_asked_for(films, found):
    picture, _ = query(films, 1)

    def cameras(**asked):
        return {track.camera for track in found.search(picture, 100, **asked)[0]}

    assert cameras() == {1, 2, 3}
    assert cameras(camera=2) == {2}
    assert cameras(camera=[1, 3]) == {1, 3}
    assert cameras(not_camera=2) == {1, 3}
    assert cameras(begin=read_clock('10:00')) == {2, 3}
    assert cameras(begin=read_clock('9:59'), end=read_clock('11:00')) == {2}
    [all_tracks] = found.search(picture, 100, camera=2)
    begin = min(track.end for track in all_tracks)
    [tracks] = found.search(picture, 100, camera=2, begin=begin, end=begin + 1)
    expected = [t.track for t in all_tracks if t.end > begin and t.begin < begin + 1]
    assert [track.track for track in tracks] == expected
    assert 0 < len(expected) < len(all_tracks)
    with pytest.raises(DataError, match=r'cameras 1, 2, 3, from 9:58:\d\d-12:00:\d\d'):
        found.search(picture, camera=7)
    with pytest.raises(ConfigError, match='top=0'):
        found.search(picture, 0)


def test_an_expanded_query_is_its_mean_with_the_nearest_tracks_of_all_cameras(films, found):
    picture, _ = query(films, 1)
    for expansion in (QueryExpansion(1, alpha=0), QueryExpansion(3)):
        [expected] = found.search(picture, 100, not_camera=1)
        [tracks] = found.search(picture, 100, not_camera=1, expansion=expansion)
        assert {track.camera for track in tracks} == {2, 3}
        all_tracks = found.gallery.take(found.gallery.find())[0].features
        own = Colors()(picture).features
        mean = expansion(own, all_tracks, 'cosine')
        asked = Colors()(picture)
        asked.features = mean
        [alike] = found.search_features(asked, 100, found.where(not_camera=1))
        assert [t.track for t in tracks] == [t.track for t in alike]
        np.testing.assert_allclose(*([t.distance for t in s] for s in (tracks, alike)), atol=1e-6)
        assert [t.distance for t in tracks] != [t.distance for t in expected]


@pytest.mark.parametrize('kind', KINDS)
def test_what_somebody_looks_like_from_behind_is_found_by_way_of_the_own_camera(kind, tmp_path):
    """The query is as near to somebody else as to the person; the own track knows both sides."""
    front, back, other = np.eye(3, 8)
    own, person, stranger = front + 0.8 * back, back + 0.5 * front, 0.6 * front + other
    vectors = np.float32([own, person, stranger])
    gallery = create_gallery(tmp_path / 'gallery', 8, index=kind)
    nobody = np.full(3, -1)
    gallery.add(ReIDFeatures(vectors, nobody, np.array([1, 2, 2]), ['own', 'person', 'stranger']))
    finish(gallery, tmp_path / 'gallery')
    asked = ReIDFeatures(np.float32([front]), nobody[:1], nobody[:1])
    elsewhere = Where(not_cameras=1)
    assert gallery.search(asked, 1, where=elsewhere)[0].tolist() == [[2]]
    expansion = QueryExpansion(1, alpha=0)
    expanded = expansion.in_gallery(asked, gallery)
    assert gallery.search(expanded, 1, where=elsewhere)[0].tolist() == [[1]]
    for settings in (expansion, QueryExpansion(9)):  # more than there are
        mean = settings(asked.features, vectors, 'cosine')
        expanded = settings.in_gallery(asked, gallery)
        np.testing.assert_allclose(expanded.features, mean, atol=1e-3)  # some keep float16


def test_times_are_read_and_written():
    assert read_clock('9:58') == 35880 and read_clock('09:58:03.5') == 35883.5
    assert clock(35883.5) == '9:58:03'
    for wrong in ('9', '9:60', '9:58:60', 'noon', '-1:00'):
        with pytest.raises(ConfigError, match='is no time'):
            read_clock(wrong)


def test_passages_are_cut_out(films, found, tmp_path):
    [tracks] = found.search(query(films, 2)[0], 2)
    files = cut_passages(found, tracks, tmp_path)
    assert len(files) == 2 and files[0].name.startswith('01_')
    for track, file in zip(tracks, files, strict=True):
        video = Video(track.video)
        begin, end = max(track.first - 10, 0), min(track.last + 10, video.frames - 1)
        cut = Video(file)
        assert (cut.size, cut.fps) == (video.size, video.fps)
        assert cut.frames == end - begin + 1


@pytest.mark.parametrize('killed', [1, 2])
def test_an_interrupted_index_ends_as_an_undisturbed_one(films, found, tmp_path, killed):
    class Killed(Colors):
        def __call__(self, crops, *more):
            if len(self.sizes) == 2 * killed:
                raise KeyboardInterrupt
            return super().__call__(crops, *more)

    starts = [read_clock('9:58'), read_clock('10:00'), read_clock('12:00')]
    with pytest.raises(KeyboardInterrupt):
        index(films, tmp_path, extractor=Killed(), starts=starts)
    again = index(films, tmp_path, starts=starts)
    assert again.gallery.columns == found.gallery.columns
    assert again.gallery.paths == found.gallery.paths
    searched = [people.search(query(films, 3)[0], 50)[0] for people in (again, found)]
    assert [t.track for t in searched[0]] == [t.track for t in searched[1]]
    np.testing.assert_allclose(*([t.distance for t in s] for s in searched), atol=1e-5)


def test_videos_can_be_added(films, found, tmp_path):
    index(films, tmp_path, NAMES[:1])
    count = len(PersonSearch(tmp_path).gallery)
    people = index(films, tmp_path, NAMES)
    (tmp_path / 'tracks' / 'WS-02.txt').unlink()  # killed between gallery and text
    people = index(films, tmp_path, NAMES)
    assert len(people.gallery) == len(found.gallery) > count
    assert people.gallery.columns['track'] == found.gallery.columns['track']


def test_a_video_that_is_added_has_a_camera_and_a_name_of_its_own(films, tmp_path):
    clips = [tmp_path / place / 'clip.avi' for place in ('hall', 'yard')]
    for clip, name in zip(clips, NAMES[:2], strict=True):
        clip.parent.mkdir()
        shutil.copy(films / name / f'{name}.avi', clip)
    boxes = {
        clip: read_boxes(films / n / 'gt' / 'gt.txt')
        for clip, n in zip(clips, NAMES[:2], strict=True)
    }
    people = PersonSearch(tmp_path / 'found', Colors())
    tracker = VideoTracker(None, Colors(), pictures=True)
    for wanted in (clips[:1], clips[1:], clips[::-1]):
        people.index(wanted, tracker, boxes=[boxes[clip] for clip in wanted])
    columns = people.gallery.columns
    rows = set(zip(columns['video'], columns['name'], columns['camera'], strict=True))
    assert rows == {(str(clips[0]), 'clip', 1), (str(clips[1]), 'clip_2', 2)}
    assert len(columns['video']) == len(index(films, tmp_path / 'once', NAMES[:2]).gallery)


@tries('give it once')
def test_footage_given_twice_is_no_second_camera(films, tmp_path):
    tracker = VideoTracker(None, Colors(), pictures=True)
    people = PersonSearch(tmp_path / 'found', Colors())
    video = films / 'WS-01' / 'WS-01.avi'
    (tmp_path / 'link.avi').symlink_to(video)
    for again in (video, films / 'WS-01', films / 'WS-01' / '..' / 'WS-01', tmp_path / 'link.avi'):
        given = [films / 'WS-01', films / 'WS-02', again]
        with pytest.raises(ConfigError, match=rf'{again} is the same footage as {given[0]}, and'):
            people.index(given, tracker)
    assert not (tmp_path / 'found').exists()
    assert index(films, tmp_path, [NAMES[0]]).gallery is not None


def test_what_an_index_needs_is_said(films, tmp_path):
    people = PersonSearch(tmp_path)
    with pytest.raises(ConfigError, match='pictures=True is needed'):
        people.index([films / 'WS-01'], VideoTracker(None, Colors()))
    with pytest.raises(ConfigError, match='cameras: 2 for 1 videos'):
        people.index([films / 'WS-01'], VideoTracker(None, Colors(), pictures=True), cameras=[1, 2])
    with pytest.raises(ConfigError, match='extractor: it is needed'):
        people.search('a.jpg')
    with pytest.raises(DataError, match='no track was indexed there'):
        PersonSearch(tmp_path, Colors()).search(np.zeros((9, 9, 3), np.uint8))
    assert effvit_mm.PersonSearch is PersonSearch


def test_the_truth_judges_a_search(films, found):
    results = evaluate_search(found, films / 'queries', films)
    assert len(results) == 12  # four people by three cameras
    for result in results:
        assert all(track.camera != int(result.picture.split('_c')[-1][0]) for track in result.found)
        assert result.first == result.right[0]
    assert np.mean([result.precision for result in results]) > 0.3
    assert draw_queries(results, 3).ndim == 3
    with pytest.raises(DataError, match='no sequence with gt'):
        evaluate_search(found, films / 'queries', films / 'queries')


def test_a_drawn_track_names_its_video_where_there_is_room(films, found):
    [[track]] = found.search(query(films, 2)[0], 1, camera=2)
    for video, caption in (('a/hall.mp4', 'camera 2 hall.mp4'), ('a/' + 25 * 'x', 'camera 2')):
        track = dataclasses.replace(track, video=video)
        assert as_shown(track).captions[0] == caption
        assert as_shown(track, True, video=False).captions[0] == 'camera 2'


# The tool ----------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Config and weights of a small network that was not trained."""
    import torch

    from effvit_mm.openmm.config.loading import load_config
    from effvit_mm.openmm.trained import build_reid

    folder = tmp_path_factory.mktemp('model')
    config = write_people_config(folder / 'config.py', make_people(folder / 'people'))
    torch.manual_seed(0)
    network = build_reid(load_config(str(config), []), str(config))
    torch.save({'state_dict': network.state_dict()}, folder / 'weights.pth')
    return str(config), str(folder / 'weights.pth')


def test_the_tool_indexes_searches_draws_and_judges(films, model, tmp_path, capsys):
    tool, out = load_tool('person_search'), str(tmp_path / 'found')
    videos = [str(films / name) for name in NAMES[:2]]
    boxes = [str(films / name / 'gt' / 'gt.txt') for name in NAMES[:2]]
    arguments = ['index', *videos, '--boxes', *boxes, '--reid', *model, '--out', out]
    assert tool.main([*arguments, '--start', '10:00', '11:00']) == 0
    assert 'tracks in' in capsys.readouterr().out
    picture, _ = query(films, 2)
    clips, sheet = tmp_path / 'clips', tmp_path / 'found.png'
    search = ['search', out, picture, '--camera', '2', '--from', '11:00', '--top', '2']
    assert tool.main([*search, '--show', str(sheet), '--clip', str(clips)]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading, first = lines[:2]
    names = ['rank', 'distance', 'camera', 'time', 'video', 'track', 'frames']
    assert heading.split() == names and first.split()[:3:2] == ['1', '2']
    assert first.split()[3].startswith('11:00:') and first.split()[4].endswith(f'{NAMES[1]}.avi')
    assert [heading.index(name) for name in names[3:5]] == [
        first.index(first.split()[place]) for place in (3, 4)
    ]
    assert cv2.imread(str(sheet)) is not None
    assert len(list(clips.glob('*.mp4'))) == 2
    truth = ['evaluate', out, '--truth', str(films), '--queries', str(films / 'queries')]
    assert tool.main([*truth, '--show', str(sheet)]) == 0
    plain = capsys.readouterr().out
    assert 'person-search mAP' in plain
    assert tool.main([*truth, '--query-expansion', '1']) == 0
    assert capsys.readouterr().out.splitlines()[0] != plain.splitlines()[0]
    expanded = [*search, '--query-expansion', '1']
    assert tool.main(expanded) == 0
    assert capsys.readouterr().out.splitlines()[:3] != lines[:3]
    elsewhere = ['search', out, picture, '--top', '99']
    for flags, there in (([], {'1', '2'}), (['--not-camera', '2'], {'1'})):
        assert tool.main([*elsewhere, *flags]) == 0
        rows = capsys.readouterr().out.splitlines()[1:]
        assert {row.split()[2] for row in rows} == there
    with pytest.raises(SystemExit):
        tool.main(['search', '--help'])
    helps = ' '.join(capsys.readouterr().out.split())
    for words in (
        'folder that `index` wrote',
        'only tracks of these cameras',
        'only people who were there before this time',
    ):
        assert words in helps
    for wrong, message in (
        ([*arguments, '--resume', '--period', '0.7'], 'was made with period=0.5, not 0.7'),
        ([*arguments, '--detector', 'x.py'], '--detector, --boxes: exactly one of them'),
        ([*arguments, '--overwrite', '--start', 'noon'], "'noon' is no time"),
        ([*arguments, '--overwrite', '--cameras', '1'], 'cameras: 1 for 2 videos'),
        ([*search, '--to', '10'], "'10' is no time"),
        ([*search, '--query-expansion', '0'], '--query-expansion 0: 1 or more is needed'),
        (['search', str(tmp_path), picture], 'was not made by index'),
        ([*search, '--show', 'a.jpg'], 'ending in .png'),
        (['search', out, picture, '--camera', '5'], 'camera 5: there are cameras 1, 2'),
        (['search', out, picture, '--camera', '1', '5'], 'camera 5: there are cameras 1, 2'),
        (['search', out, picture, '--not-camera', '3'], 'camera 3: there are cameras 1, 2'),
        (['search', out, picture, '--not-camera', '1', '2'], 'there are cameras 1, 2'),
    ):
        assert tool.main(wrong) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1, error


@tries(
    '; to search a gallery of images use reid_search.py search',
    'to search them use person_search.py search',
)
def test_each_search_names_the_other_for_its_galleries(films, model, tmp_path, capsys):
    tracks, images = load_tool('person_search'), load_tool('reid_search')
    picture, out = query(films, 1)[0], str(tmp_path / 'found')
    film = films / NAMES[0]
    index = [str(film), '--boxes', str(film / 'gt' / 'gt.txt'), '--reid', *model, '--out', out]
    config = ['--config', model[0], '--checkpoint', model[1]]
    assert tracks.main(['index', *index]) == 0
    for kind in ('exact', 'large'):
        gallery = str(tmp_path / kind)
        flags = [*config, '--index', kind, '--out', gallery]
        assert images.main(['index', str(films / 'queries'), *flags]) == 0
        capsys.readouterr()
        assert tracks.main(['search', gallery, picture]) == 2
        error = capsys.readouterr().err
        assert error.endswith('was not made by index; to search a gallery of images use '
                              'reid_search.py search\n')  # fmt: skip
        assert images.main(['search', gallery, picture]) == 0
    capsys.readouterr()
    assert images.main(['search', out, picture, *config]) == 2
    assert 'to search them use person_search.py search' in capsys.readouterr().err
    assert tracks.main(['search', out, picture]) == 0


@tries(
    'of an earlier run: --resume goes on with them or adds to them, --overwrite begins anew without'
)
def test_the_tool_begins_anew_where_it_is_told_to(films, model, tmp_path, capsys):
    tool, out = load_tool('person_search'), tmp_path / 'found'

    def index(number, *flags, reid=model):
        film = films / NAMES[number]
        boxes = ['--boxes', str(film / 'gt' / 'gt.txt'), '--reid', *reid]
        code = tool.main(['index', str(film), *boxes, '--out', str(out), *flags])
        printed = capsys.readouterr()
        return code, printed.err or printed.out

    def kept():
        return {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}

    code, error = index(0, reid=('gone.py', 'gone.pth'))
    assert code == 2 and 'gone' in error
    for folder in ('tracks', 'work/hall'):  # so far came a start that failed
        (out / folder).mkdir(parents=True)
    for name in ('settings.json', 'work/hall/settings.json'):
        (out / name).write_text('{}')
    assert index(0)[0] == 0
    before = kept()
    # Before a network is built: the second has no files.
    for number, files in ((0, model), (1, ('gone.py', 'gone.pth'))):
        code, error = index(number, reid=files)
        assert code == 2 and len(error.splitlines()) == 1
        assert f'--out {out}: there are results of an earlier run: --resume goes on' in error
    code, error = index(1, '--resume', '--overwrite')
    assert code == 2 and '--resume, --overwrite: only one of them' in error
    assert tool.main(['index', 'gone.avi', '--boxes', 'x', *['--reid', 'a', 'b', '--out'], str(out),
                      '--overwrite']) == 2  # fmt: skip
    assert 'gone.avi: no such file' in capsys.readouterr().err
    assert kept() == before
    assert index(1, '--resume')[0] == 0
    assert set(Gallery.load(out / 'gallery').columns['name']) == set(NAMES[:2])
    assert index(0, '--overwrite')[0] == 0
    assert kept() == before


@tries(
    'give its command once more with --resume', 'name another, or begin it anew with --overwrite'
)
def test_an_index_that_was_cut_short_says_so(films, model, tmp_path, capsys, monkeypatch):
    tool, out = load_tool('person_search'), tmp_path / 'found'
    monkeypatch.chdir(films)
    boxes = [f'{name}/gt/gt.txt' for name in NAMES[:2]]
    index = ['index', *NAMES[:2], '--boxes', *boxes, '--reid', *model, '--out', str(out)]
    ending = PersonSearch._add

    def cut(self, name, *arguments):
        if name == NAMES[1]:
            raise KeyboardInterrupt
        ending(self, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PersonSearch, '_add', cut)
        assert tool.main(index) == 130
    picture = str(next((films / 'queries').glob('*.jpg')))
    monkeypatch.chdir(tmp_path)
    told = rf'found: index has not come to its end, and who is in \S+/{NAMES[1]} is not found; give'
    with pytest.warns(UserWarning, match=told):
        assert tool.main(['search', str(out), picture, picture]) == 0
    assert capsys.readouterr().out.count(f'{picture}\n') == 2
    monkeypatch.chdir(films)
    assert tool.main([*index, '--resume', '--min-iou', '0.9']) == 2
    assert 'name another, or begin it anew with --overwrite' in capsys.readouterr().err
    assert tool.main([*index, '--resume']) == 0
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        assert tool.main(['search', str(out), picture]) == 0
    assert tool.main([*index, '--overwrite', '--min-iou', '0.9']) == 0
    assert not (out / 'unfinished.json').exists()


@tries('name another, or give --resume and the --out')
def test_the_tool_keeps_tracks_in_the_gallery_that_is_asked_for(films, model, tmp_path, capsys):
    pytest.importorskip('milvus_lite')
    tool, database = load_tool('person_search'), tmp_path / 'people.db'
    index = ['index', str(films / NAMES[1]), '--boxes', str(films / NAMES[1] / 'gt' / 'gt.txt')]
    index += ['--reid', *model]
    wanted = {'file': [], 'folder': ['--index', 'large'], 'database': ['--gallery', str(database)]}
    found = {}
    for name, flags in wanted.items():
        out = str(tmp_path / name)
        assert tool.main([*index, '--out', out, *flags]) == 0
        capsys.readouterr()
        assert tool.main(['search', out, query(films, 2)[0]]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
        found[name] = [[line[0], *line[2:]] for line in lines]  # all but the distance
    assert len(found['file']) > 3 and found['file'] == found['folder'] == found['database']
    assert (tmp_path / 'file' / 'gallery').is_file()
    assert (tmp_path / 'folder' / 'gallery' / 'gallery.json').is_file()
    assert database.exists() and not (tmp_path / 'database' / 'gallery').exists()
    for flags, said in (
        (
            ['--gallery', str(database), '--overwrite'],
            'people.db: there is one, of another run: name another',
        ),
        (['--gallery', str(database), '--resume'], "was made with gallery=None, not '/"),
        (
            ['--gallery', 'x.db', '--index', 'large', '--overwrite'],
            'index large: it is a folder, not a database',
        ),
        (['--index', 'large', '--resume'], "was made with index=None, not 'large'"),
    ):
        assert tool.main([*index, '--out', str(tmp_path / 'file'), *flags]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count('error') == 1
    index += ['--gallery', str(database), '--resume']
    assert tool.main([*index, '--out', str(tmp_path / 'new')]) == 2
    assert 'give --resume and the --out' in capsys.readouterr().err
    assert tool.main([*index, '--out', str(tmp_path / 'database')]) == 0
    assert f'{len(found["file"])} tracks' in capsys.readouterr().out
