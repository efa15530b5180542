"""The drawn pedestrians: the same everywhere, told apart by more than colours."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.random import RandomState

from effvit_mm.errors import DataError
from effvit_mm.sample_data import walkers
from effvit_mm.sample_data.folders import make_once
from effvit_mm.sample_data.walker_drawing import VIEWS, Person, Pose, draw_person
from effvit_mm.utils.images import load_image

# Of the pictures that `digest` takes: the same on every machine.
DIGEST = 'f013e6945395b8b7'
NAME = re.compile(r'(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg')


@pytest.fixture(scope='module', autouse=True)
def few_people():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walkers, 'NUM_PEOPLE', {'train': 8, 'test': 4})
        patch.setattr(walkers, 'NUM_DISTRACTORS', 4)
        patch.setattr(walkers, 'NUM_JUNK', 2)
        yield


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp('data') / 'walkers', walkers.build_walkers)


@pytest.fixture(scope='module')
def scenes():
    return [walkers.draw_surroundings(camera) for camera in range(len(walkers.CAMERAS))]


def names_in(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """(person, camera) of each file by the name of its folder."""
    found = defaultdict(list)
    for path in sorted(folder.rglob('*.jpg')):
        person, camera, *_ = NAME.fullmatch(path.name).groups()
        found[path.parent.name].append((int(person), int(camera)))
    return found


def test_made_twice_they_are_the_same_files(root, tmp_path):
    again = make_once(tmp_path / 'again', walkers.build_walkers)
    files = {p.relative_to(root): p.read_bytes() for p in root.rglob('*.jpg')}
    assert files == {p.relative_to(again): p.read_bytes() for p in again.rglob('*.jpg')}
    assert len(set(files.values())) == len(files)


def test_they_are_the_same_on_every_machine(scenes):
    digest = hashlib.sha256()
    generator = RandomState(1)
    for number, person in enumerate(walkers.draw_people(RandomState(2), 12)):
        camera = number % 4
        picture = walkers.take_picture(generator, person, camera, scenes[camera], 'whole')
        digest.update(picture.tobytes())
    assert digest.hexdigest()[:16] == DIGEST


def test_files_are_named_and_divided_as_in_market_1501(root):
    found = names_in(root)
    assert set(found) == {'bounding_box_train', 'query', 'bounding_box_test'}
    train, query, gallery = (
        found[key] for key in ('bounding_box_train', 'query', 'bounding_box_test')
    )
    assert {person for person, _ in train} == set(range(1, 9))
    assert {person for person, _ in query} == set(range(9, 13))
    assert {person for person, _ in gallery} == {-1, 0, *range(9, 13)}
    cameras = {1, 2, 3, 4}
    shots = walkers.PICTURES_A_CAMERA
    assert Counter(train) == {(p, c): shots for p in range(1, 9) for c in cameras}
    assert Counter(query) == {(p, c): 1 for p in range(9, 13) for c in cameras}
    people = Counter(item for item in gallery if item[0] > 0)
    assert people == dict.fromkeys(query, shots - 1)
    assert sum(p == 0 for p, _ in gallery) == 4 and sum(p == -1 for p, _ in gallery) == 2


def test_every_picture_can_be_read_and_has_one_size(root):
    for path in root.rglob('*.jpg'):
        assert load_image(path).shape == (walkers.HEIGHT, walkers.WIDTH, 3)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / 'mine.txt').write_text('x')
    with pytest.raises(DataError, match='effvit_mm did not make it'):
        walkers.make_walkers(tmp_path)


# People -------------------------------------------------------------------------------------------


def test_people_in_the_same_colours_differ_in_several_other_things():
    people = walkers.draw_people(RandomState(walkers.SEED), 96)
    groups = [people[i : i + walkers.GROUP] for i in range(0, 96, walkers.GROUP)]
    for group in groups:
        for color in ('upper', 'lower_color'):
            values = np.array([getattr(person, color) for person in group])
            assert np.ptp(values, axis=0).max() <= 20  # the same dye
        assert len({person.pattern for person in group}) == walkers.GROUP
        assert len({person.bag for person in group}) == walkers.GROUP
        looks = [(p.hair, p.hat, p.sleeves, p.lower, p.height // 5, p.girth // 8) for p in group]
        assert len(set(looks)) == walkers.GROUP


def drawn(person: Person, view: str) -> np.ndarray:
    picture = np.full((walkers.HEIGHT, walkers.WIDTH, 3), 128, np.uint8)
    draw_person(picture, person, Pose(view, 60, 32, 120, 110))
    return picture.astype(int)


@pytest.mark.parametrize(
    'change',
    [
        {'height': 88}, {'girth': 118}, {'skin': (40, 55, 85)}, {'hair': 'long'}, {'hair': 'bun'},
        {'hair': 'bald'}, {'hair_color': (80, 160, 205)}, {'hat': 'cap'}, {'hat': 'beanie'},
        {'upper': (45, 40, 190)}, {'upper_second': (60, 205, 230)}, {'pattern': 'plain'},
        {'pattern': 'bars'}, {'pattern': 'checks'}, {'pattern': 'halves'}, {'pattern': 'band'},
        {'pattern': 'dots'}, {'pattern': 'slanted'}, {'sleeves': 'short'}, {'lower': 'shorts'},
        {'lower': 'skirt'}, {'lower_color': (60, 140, 50)}, {'striped_legs': True},
        {'shoes': (228, 230, 230)}, {'bag': 'backpack'}, {'bag': 'satchel'}, {'bag': 'tote'},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_makes_a_person_can_be_seen_from_most_sides(change):
    person = Person(
        height=98, girth=100, skin=(165, 190, 235), hair='short', hair_color=(25, 25, 28),
        hat='none', hat_color=(45, 40, 190), upper=(110, 50, 30), upper_second=(228, 230, 230),
        pattern='rings', sleeves='long', lower='trousers', lower_color=(128, 130, 130),
        striped_legs=False, shoes=(35, 32, 32), bag='none', bag_color=(40, 120, 235),
    )  # fmt: skip
    other = replace(person, **change)
    changed = [
        (np.abs(drawn(person, view) - drawn(other, view)).max(2) > 30).sum() for view in VIEWS
    ]
    assert sorted(changed)[1] >= 12, changed  # pixels, in three of the four views


def test_a_step_moves_legs_and_arms_alone():
    person = walkers.draw_people(RandomState(3), 1)[0]
    pictures = []
    for phase in (0, 90):
        picture = np.full((128, 64, 3), 128, np.uint8)
        draw_person(picture, replace(person, bag='none'), Pose('right', phase, 32, 120, 110))
        pictures.append(picture.astype(int))
    moved = np.abs(pictures[0] - pictures[1]).max(2) > 0
    assert moved[70:].sum() > 100 and not moved[:25].any()


# Cameras ------------------------------------------------------------------------------------------


def test_cameras_change_colours_and_sharpness():
    chart = np.full((walkers.HEIGHT, walkers.WIDTH, 3), 128, np.uint8)
    chart[:40], chart[-40:] = 30, 230
    chart[40:50], chart[50:60] = (200, 60, 60), (60, 60, 200)
    rows = [15, 45, 55, 75, 110]
    colors = [
        walkers.expose(RandomState(0), chart, camera).mean(1)[rows] for camera in walkers.CAMERAS
    ]
    for i in range(4):
        for j in range(i):
            assert np.abs(colors[i] - colors[j]).max() > 15
    grey = np.full_like(chart, 128)
    edge = grey.copy()
    edge[:, 32:] = 255
    steps = [
        np.abs(np.diff(walkers.expose(RandomState(0), edge, camera).astype(int), axis=1)).max()
        for camera in walkers.CAMERAS
    ]
    assert max(steps) > 1.4 * min(steps)


def histogram(picture: np.ndarray) -> np.ndarray:
    """Colours of the middle, after the cast of the light was taken out."""
    middle = picture[:, 12:52].astype(np.float32)
    middle = np.clip(middle / middle.mean((0, 1)) * 110, 0, 255).astype(np.uint8)
    hsv = cv2.cvtColor(middle, cv2.COLOR_BGR2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256]).ravel()
    return np.sqrt(counts / counts.sum())


def test_colours_alone_do_not_find_a_person_in_another_camera(scenes):
    generator = RandomState(5)
    people = walkers.draw_people(RandomState(walkers.SEED + 1), 32)
    features, labels = [], []
    for pid, person in enumerate(people):
        for camera in range(4):
            picture = walkers.take_picture(generator, person, camera, scenes[camera], 'whole')
            features.append(histogram(picture))
            labels.append((pid, camera))
    features, labels = np.array(features), np.array(labels)
    likeness = features @ features.T
    likeness[labels[:, None, 1] == labels[None, :, 1]] = -1  # other cameras alone
    found = labels[likeness.argmax(1), 0] == labels[:, 0]
    assert 0.05 < found.mean() < 0.5  # chance is 0.03


def test_a_cut_picture_holds_less_than_half_of_the_person(scenes):
    person = walkers.draw_people(RandomState(3), 1)[0]
    empty = np.full_like(scenes[0], 128)
    shares = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walkers, 'OCCLUDED', 0)
        patch.setattr(walkers, 'PASSED', 0)
        patch.setattr(walkers, 'expose', lambda generator, picture, camera: picture)
        for frame in ('whole', 'cut'):
            pictures = [
                walkers.take_picture(RandomState(seed), person, 0, empty, frame)
                for seed in range(8)
            ]
            shares.append([(np.abs(p.astype(int) - 128).max(2) > 8).sum() for p in pictures])
    assert max(shares[1]) < 0.5 * np.median(shares[0])
