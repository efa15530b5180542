"""The sample set of videos: the same everywhere, true boxes, nobody trained on is searched for."""

from __future__ import annotations

import configparser
import hashlib
import json

import cv2
import numpy as np
import pytest
from numpy.random import RandomState

from effvit_mm.inference.videos import Video
from effvit_mm.openmm.reid.datasets import ReIDDataset
from effvit_mm.reid.names import read_folders
from effvit_mm.sample_data import walker_films, walker_scenes
from effvit_mm.sample_data.folders import make_once
from effvit_mm.sample_data.walker_films import HEIGHT, WIDTH, Film, Stand, Walk, plan_walks
from effvit_mm.sample_data.walker_scenes import SEARCH_PLACES, TRAIN_PLACES, Amount
from effvit_mm.sample_data.walkers import draw_people

# Of the frames that `test_they_are_the_same_on_every_machine` draws.
DIGEST = 'cd3ef69348090bc6'
PLAIN = walker_films.Place(5, TRAIN_PLACES[0].camera, 112, (70, 124))
AMOUNT = Amount(train=8, test=4, search=4, train_every=24, test_every=24)


def build(folder):
    walker_scenes.build_walker_scenes(folder, AMOUNT)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_once(
        tmp_path_factory.mktemp('data') / 'walker_scenes', build, walker_scenes.VERSION
    )


def film(*walks, place=PLAIN):
    return Film(place, draw_people(RandomState(9), 8), walks)


def across(person, depth=5000, start=0, **more):
    return Walk(person, start, 'right', -20 * 16, depth, (80, 0), **more)


def test_made_twice_they_are_the_same_files(root, tmp_path):
    again = make_once(tmp_path / 'again', build, walker_scenes.VERSION)
    files, others = (
        {p.relative_to(place): p.read_bytes() for p in place.rglob('*') if p.is_file()}
        for place in (root, again)
    )
    assert files == others
    assert {p.suffix for p in files} >= {'.jpg', '.avi', '.txt', '.ini', '.json'}


def test_they_are_the_same_on_every_machine():
    digest = hashlib.sha256()
    people = draw_people(RandomState(2), 8)
    for place in (*TRAIN_PLACES, *SEARCH_PLACES):
        drawn = Film(place, people, plan_walks(RandomState(3), place, 8, 4))
        picture, seen = drawn.draw(30)
        digest.update(picture.tobytes() + repr(seen).encode())
    assert digest.hexdigest()[:16] == DIGEST


@pytest.mark.parametrize('view, step', [('right', (80, 0)), ('front', (4, 170))])
def test_a_box_holds_the_person_and_nothing_else(view, step):
    walk = Walk(2, 0, view, 120 * 16, 3000, step)
    for frame in (0, 3, 9):
        [seen] = film(walk).draw(frame)[1]
        x, y, width, height = seen.box
        # The same frame with the person at another time: what differs is the person.
        other = film(walk, across(3, start=200))
        other.cast.pop(frame)
        changed = (film(walk).draw(frame)[0] != other.draw(frame)[0]).any(2)
        rows, columns = np.nonzero(cv2.erode(changed.astype(np.uint8), np.ones((2, 2))))
        for values, low, size in ((rows, y, height), (columns, x, width)):
            assert abs(values.min() - low) <= 2
            assert abs(values.max() + 1 - low - size) <= 2
        assert seen.visible == 100


def test_who_is_behind_something_or_beyond_the_edge_is_seen_in_part():
    stand = Stand(100, 160, 0, 80)
    hidden = film(across(1), place=walker_films.Place(5, PLAIN.camera, 112, (70, 124), (stand,)))
    seen = [hidden.draw(frame)[1] for frame in range(hidden.length)]
    visible = [body.visible for [body] in seen if body.box[0] > 0 and body.box[0] < 180]
    assert min(visible) == 0 and max(visible) == 100
    entering = [body.visible for [body] in seen if body.box[0] + body.box[2] < 20]
    assert entering == sorted(entering) and entering[0] < 50
    # In front of it nobody is hidden.
    near = film(across(1, depth=9000), place=hidden.place)
    assert near.draw(30)[1][0].visible == 100
    # Of two at one place the one in front hides the other.
    pair = {body.person: body.visible for body in film(across(1), across(2, 6000)).draw(20)[1]}
    assert pair[2] == 100 and pair[1] < 60


def test_who_stops_stays_and_who_turns_goes_back():
    stays, turns = (
        [step for _, step in walker_films.steps(across(0, stop=100 * 16, pause=6, turns=turn))]
        for turn in (False, True)
    )
    columns = [step.column for step in stays]
    assert columns == sorted(columns) and columns.count(100) == 6 and columns[-1] > WIDTH
    assert max(step.column for step in turns) == 100 and turns[-1].column < 0
    assert {step.view for step in turns} == {'left', 'right'}


def test_people_and_cameras_to_search_for_are_not_those_to_train_on(root):
    parts = [Amount().train, Amount().test, Amount().search]
    invented = [
        draw_people(RandomState(walker_scenes.SEED + n), count) for n, count in enumerate(parts)
    ]
    assert len({person for part in invented for person in part}) == sum(parts)
    trained = {(place.seed, place.camera.mix) for place in TRAIN_PLACES}
    assert not trained & {(place.seed, place.camera.mix) for place in SEARCH_PLACES}
    people = {
        name: {int(path.name[:4]) for path in (root / name).iterdir()}
        for name in ('reid/bounding_box_train', 'reid/query', 'reid/bounding_box_test')
    }
    people['search'] = {int(path.name[:4]) for path in (root / 'search/queries').iterdir()}
    assert people['reid/bounding_box_train'] == set(range(1, 9))
    assert people['reid/query'] >= people['reid/bounding_box_test'] == set(range(9, 13))
    assert people['search'] == set(range(13, 17))


def test_videos_are_laid_out_as_in_mot17(root):
    sequences = sorted((root / 'search').glob('WS-*'))
    assert [path.name for path in sequences] == ['WS-01', 'WS-02', 'WS-03']
    for place in sequences:
        parser = configparser.ConfigParser()
        parser.read(place / 'seqinfo.ini')
        info = parser['Sequence']
        video = Video(place / info['video'])
        assert (video.size, video.fps) == ((HEIGHT, WIDTH), float(info['frameRate']))
        assert info.getint('seqLength') == video.frames == sum(1 for _ in video)
        truth = np.loadtxt(place / 'gt' / 'gt.txt', delimiter=',')
        assert truth.shape[1] == 9
        assert set(truth[:, 1]) == set(range(13, 17))
        assert truth[:, 0].min() >= 1 and truth[:, 0].max() <= video.frames
        assert ((truth[:, 6] == 1) == (truth[:, 8] >= walker_scenes.TRACKED / 100)).all()
        assert len(np.unique(truth[:, :2], axis=0)) == len(truth)  # once in each frame


def test_frames_and_people_can_be_trained_on(root):
    from effvit_mm.openmm.datasets.detection import WalkerScenes

    for split in ('train', 'test'):
        frames = WalkerScenes(data_root=str(root), split=split, pipeline=[])
        coco = json.loads((root / 'annotations' / f'{split}.json').read_text())
        assert len(frames) == len(coco['images']) > 0
        for annotation in coco['annotations']:
            x, y, width, height = annotation['bbox']
            assert 0 <= x < x + width <= WIDTH and 0 <= y < y + height <= HEIGHT
    splits = read_folders(root / 'reid', needed=('train', 'query', 'gallery'))
    assert len(splits.cameras) == len(TRAIN_PLACES)
    people = ReIDDataset(data_root=str(root), source='walker_scenes', split='train')
    assert people.num_pids == 8
    assert all(cv2.imread(people.get_data_info(i)['img_path']) is not None for i in range(8))
