"""The sample set for finding people in videos: drawn pedestrians walk past several cameras.

People and cameras of the videos to search in are not those to train on. In the folder are::

    images/{train,test}/*.jpg, annotations/{train,test}.json    frames and boxes, COCO-style
    reid/{bounding_box_train,query,bounding_box_test}/*.jpg     people cut out, as in Market-1501
    search/WS-01/{WS-01.avi,seqinfo.ini,gt/gt.txt}, ...         videos, as in MOT17
    search/queries/*.jpg                                        who is to be found, named likewise

A person's number is the same everywhere. Random numbers come from NumPy's frozen generator, pixels
are computed with whole numbers, films are written by OpenCV's own Motion-JPEG.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import RandomState

from ..errors import DataError
from ..utils.images import cut_out
from .digit_images import SPLITS
from .folders import make_once
from .walker_films import FPS, HEIGHT, WIDTH, Film, Place, Seen, Stand, plan_walks
from .walkers import Camera, draw_people

DATA_ROOT = 'data/walker_scenes'
SEED, VERSION = 20263, '2'
JPEG_QUALITY = 92
GAP = 10  # frames from one person's first step to the next one's
# Percent of a body that must be seen: to be an object, to be cut out, to count in tracking.
OBJECT, CUT, TRACKED = 30, 55, 15
CATEGORY = 'person'


@dataclass(frozen=True)
class Amount:
    """How much there is: people in the three parts, and of how many frames of the cameras to train
    on one is kept."""

    train: int = 240
    test: int = 16
    search: int = 20
    train_every: int = 96
    test_every: int = 24


def make_camera(
    blue: tuple, green: tuple, red: tuple, lift: int, gamma: int, blur: int, rows: int
) -> Camera:
    return Camera((blue, green, red), lift, gamma, blur, rows, 3, (25, 25, 25, 25))


def invent_place(seed: int) -> Place:
    """A camera and what it looks at, some of it in front of people."""
    generator = RandomState(seed)

    def between(low: int, high: int) -> int:
        return int(generator.randint(low, high + 1))

    camera = make_camera(
        (between(70, 98), between(4, 10), between(0, 8)),
        (between(2, 10), between(74, 108), between(2, 10)),
        (between(0, 6), between(4, 10), between(68, 106)),
        between(-6, 18),
        between(88, 106),
        1,
        between(104, 128),
    )
    wide, narrow = between(10, 260), between(10, 290)
    stands = (
        Stand(wide, wide + between(36, 56), between(24, 40), between(40, 65)),
        Stand(narrow, narrow + between(12, 20), between(36, 60), between(40, 90)),
    )
    sizes = between(60, 74), between(112, 134)
    return Place(seed, camera, between(100, 124), sizes, stands[: between(1, 2)])


TRAIN_PLACES = tuple(invent_place(seed) for seed in range(101, 117))
SEARCH_PLACES = (
    Place(21, make_camera((96, 4, 2), (4, 88, 6), (2, 6, 88), 8, 98, 1, 120), 110, (68, 126),
          (Stand(96, 148, 26, 55), Stand(250, 266, 40, 85))),
    Place(22, make_camera((82, 8, 4), (6, 98, 4), (0, 8, 104), 0, 92, 1, 128), 118, (66, 120),
          (Stand(180, 236, 30, 50),)),
    Place(23, make_camera((86, 10, 6), (10, 80, 6), (6, 10, 76), 16, 104, 1, 112), 106, (70, 130),
          (Stand(60, 112, 24, 60), Stand(200, 214, 50, 40))),
)  # fmt: skip


def build_walker_scenes(folder: Path, amount: Amount | None = None) -> None:
    """Write all of it into an empty folder."""
    amount = amount or Amount()
    first = 1
    for number, split in enumerate(SPLITS):
        people = draw_people(RandomState(SEED + number), getattr(amount, split))
        films = [
            Film(place, people, plan_walks(RandomState(SEED + place.seed + 100 * number), place,
                                           len(people), GAP))
            for place in TRAIN_PLACES
        ]  # fmt: skip
        _write_stills(folder, split, films, first, getattr(amount, f'{split}_every'))
        first += len(people)
    people = draw_people(RandomState(SEED + 2), amount.search)
    for number, place in enumerate(SEARCH_PLACES, start=1):
        walks = plan_walks(RandomState(SEED + place.seed), place, len(people), GAP)
        write_film(folder / 'search', number, Film(place, people, walks), first)


def _write_stills(folder: Path, split: str, films: list[Film], first: int, every: int) -> None:
    """Each ``every``-th frame with boxes for a detector, and the people in them cut out."""
    place = folder / 'images' / split
    place.mkdir(parents=True)
    coco = {
        'info': {'description': 'effvit_mm walker_scenes'},
        'categories': [{'id': 1, 'name': CATEGORY}],
        'images': [],
        'annotations': [],
    }
    generator = RandomState(SEED + 50 + first)
    for camera, film in enumerate(films, start=1):
        shots: dict[int, int] = defaultdict(int)
        for frame in range(every, film.length, every):
            picture, seen = film.draw(frame)
            name = f'c{camera}_{frame:06d}.jpg'
            write_image(place / name, picture)
            number = len(coco['images']) + 1
            size = {'width': WIDTH, 'height': HEIGHT}
            coco['images'].append({'id': number, 'file_name': name, **size})
            start = len(coco['annotations']) + 1
            coco['annotations'] += list(_annotations(seen, number, start))
            for body in seen:
                if body.visible >= CUT:
                    shot = shots[body.person]
                    shots[body.person] += 1
                    subset = 'bounding_box_train'
                    if split == 'test':
                        subset = 'bounding_box_test' if shot else 'query'
                    crop = cut_out(picture, _shaken(generator, body.box))
                    write_person(folder / 'reid' / subset, first + body.person, camera, frame, crop)
    text = json.dumps(coco, separators=(',', ':'))
    (folder / 'annotations').mkdir(exist_ok=True)
    (folder / 'annotations' / f'{split}.json').write_text(text)


def _annotations(seen: list[Seen], image: int, first: int) -> Iterator[dict]:
    """COCO's, of what is in the picture; people who are nearly hidden are to be passed over."""
    for number, body in enumerate((b for b in seen if b.visible >= TRACKED), start=first):
        x, y, width, height = body.box
        left, top = max(x, 0), max(y, 0)
        width, height = min(x + width, WIDTH) - left, min(y + height, HEIGHT) - top
        yield {
            'id': number,
            'image_id': image,
            'category_id': 1,
            'bbox': [left, top, width, height],
            'area': width * height,
            'iscrowd': int(body.visible < OBJECT),
        }


def _shaken(generator: RandomState, box: tuple[int, int, int, int]) -> np.ndarray:
    """The corners of a box, each off by up to six percent, as a detector's are."""
    x, y, width, height = box
    off = [int(generator.randint(-6, 7)) for _ in range(4)]
    return np.array([
        x + width * off[0] // 100,
        y + height * off[1] // 100,
        x + width + width * off[2] // 100,
        y + height + height * off[3] // 100,
    ])  # fmt: skip


def write_film(folder: Path, number: int, film: Film, first: int) -> None:
    """A video with its truth, and the best picture of each person in it as a query."""
    name = f'WS-{number:02d}'
    place = folder / name
    (place / 'gt').mkdir(parents=True)
    lines, best = [], {}
    writer = cv2.VideoWriter(
        str(place / f'{name}.avi'),
        cv2.CAP_OPENCV_MJPEG,
        cv2.VideoWriter_fourcc(*'MJPG'),
        FPS,
        (WIDTH, HEIGHT),
    )
    if not writer.isOpened():
        raise DataError(f'{place / name}.avi: OpenCV cannot write Motion-JPEG there')
    for frame in range(film.length):
        picture, seen = film.draw(frame)
        writer.write(picture)
        for body in seen:
            counts = int(body.visible >= TRACKED)
            numbers = (frame + 1, first + body.person, *body.box, counts, 1, body.visible / 100)
            lines.append(','.join(map(str, numbers)))
            quality = body.visible * body.box[2] * body.box[3]
            if body.visible > 0 and quality > best.get(body.person, (0,))[0]:
                best[body.person] = quality, frame, cut_out(picture, corners(body.box))
    writer.release()
    (place / 'gt' / 'gt.txt').write_text('\n'.join(lines) + '\n')
    info = {
        'name': name, 'imDir': 'img1', 'frameRate': FPS, 'seqLength': film.length,
        'imWidth': WIDTH, 'imHeight': HEIGHT, 'imExt': '.jpg', 'video': f'{name}.avi',
    }  # fmt: skip
    text = '\n'.join(['[Sequence]', *(f'{key}={value}' for key, value in info.items())])
    (place / 'seqinfo.ini').write_text(text + '\n')
    for person, (_, frame, crop) in sorted(best.items()):
        write_person(folder / 'queries', first + person, number, frame, crop)


def corners(box: tuple[int, int, int, int]) -> np.ndarray:
    """Left, top, right, bottom of a box that has width and height."""
    x, y, width, height = box
    return np.array([x, y, x + width, y + height])


def write_person(folder: Path, person: int, camera: int, frame: int, crop: np.ndarray) -> None:
    """A picture of a person, named as in Market-1501."""
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / f'{person:04d}_c{camera}s1_{frame:06d}_00.jpg', crop)


def write_image(path: Path, picture: np.ndarray) -> None:
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise DataError(f'{path} cannot be written')


def make_walker_scenes(data_root: str | Path | None = None) -> Path:
    """Make the files if they are not there yet; returns their folder."""
    return make_once(data_root or DATA_ROOT, build_walker_scenes, VERSION)
