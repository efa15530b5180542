"""The sample set for re-identification: drawn pedestrians, seen by four cameras that differ.

People come in groups of four whose upper and lower clothes have the same colours: patterns, bags,
hair, hats and shapes tell them apart. Cameras change colours, light, sharpness and background, and
prefer different sides of people. Files are laid out and named as in Market-1501. Random numbers
come from NumPy's frozen generator, pixels are computed with whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import RandomState

from ..errors import DataError
from .folders import make_once
from .scenes import draw_texture, enlarge
from .walker_drawing import BAGS, HAIR, HATS, LOWERS, PATTERNS, VIEWS, Person, Pose, draw_person

DATA_ROOT = 'data/walkers'
HEIGHT, WIDTH = 128, 64
# Groups of four people with the same colours of clothes.
GROUP = 4
NUM_PEOPLE = {'train': 192, 'test': 32}
PICTURES_A_CAMERA = 3  # of each person; of test people the first is the query
NUM_DISTRACTORS, NUM_JUNK = 24, 12
SEED = 20262
JPEG_QUALITY = 92
FOLDERS = {'train': 'bounding_box_train', 'query': 'query', 'gallery': 'bounding_box_test'}
OCCLUDED, PASSED = 12, 6  # percent of the pictures

# BGR: black, white, grey, red, navy, sky, green, olive, yellow, orange, pink, purple, brown, beige.
GARMENTS = (
    (35, 32, 32), (228, 230, 230), (128, 130, 130), (45, 40, 190), (110, 50, 30), (215, 165, 90),
    (60, 140, 50), (50, 90, 95), (60, 205, 230), (40, 120, 235), (175, 130, 235), (140, 50, 120),
    (40, 70, 115), (150, 190, 210),
)  # fmt: skip
HAIR_COLORS = ((25, 25, 28), (30, 50, 80), (80, 160, 205), (30, 80, 160), (165, 168, 170))
SKINS = ((165, 190, 235), (135, 170, 220), (95, 135, 190), (60, 90, 140), (40, 55, 85))


@dataclass(frozen=True)
class Camera:
    """How a camera changes what it sees.

    Attributes:
        mix: What blue, green and red out take of blue, green and red in, in percent.
        lift: Added to all, of 255: haze.
        gamma: In percent; above 100 the middle tones become darker.
        blur: Width of the averaging window in pixels; 1 for none.
        rows: Rows of the sensor for each ``HEIGHT`` rows of a picture, to which they are enlarged.
        noise: Largest deviation of a pixel.
        views: How probable each of ``VIEWS`` is, in percent.
    """

    mix: tuple[tuple[int, int, int], ...]
    lift: int
    gamma: int
    blur: int
    rows: int
    noise: int
    views: tuple[int, int, int, int]


CAMERAS = (
    # A hall with warm lamps.
    Camera(((86, 6, 0), (4, 94, 4), (0, 8, 102)), 6, 92, 1, 128, 3, (55, 5, 20, 20)),
    # A yard in the shade: blue, dark, flat.
    Camera(((92, 10, 4), (8, 72, 4), (4, 10, 64)), 18, 108, 1, 96, 4, (5, 55, 20, 20)),
    # A street in the sun: hard and greenish.
    Camera(((90, 8, 0), (4, 112, 4), (0, 10, 98)), -8, 88, 3, 128, 3, (15, 15, 35, 35)),
    # An old camera in the evening: few pixels, pale, reddish.
    Camera(((68, 8, 10), (8, 74, 10), (4, 12, 92)), 20, 100, 1, 80, 5, (25, 25, 25, 25)),
)


def draw_people(generator: RandomState, count: int) -> list[Person]:
    """Invent people; each ``GROUP`` in a row wears the same colours of upper and lower clothes."""
    pairs = [(a, b) for a in range(len(GARMENTS)) for b in range(len(GARMENTS)) if a != b]
    order = generator.permutation(len(pairs))
    people = []
    for group in range(-(-count // GROUP)):
        upper, lower = pairs[int(order[group % len(pairs)])]
        patterns = generator.permutation(len(PATTERNS))
        bags = generator.permutation(len(BAGS))
        for member in range(min(GROUP, count - len(people))):
            pattern, bag = PATTERNS[int(patterns[member])], BAGS[int(bags[member])]
            people.append(_draw_person(generator, upper, lower, pattern, bag))
    return people


def _draw_person(generator: RandomState, upper: int, lower: int, pattern: str, bag: str) -> Person:
    def pick(choices: Sequence):
        return choices[int(generator.randint(len(choices)))]

    def dye(color: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(np.clip(v + generator.randint(-10, 11), 0, 255)) for v in color)

    others = [color for color in GARMENTS if contrast(color, GARMENTS[upper]) >= 150]
    bag_colors = [color for color in GARMENTS if contrast(color, GARMENTS[upper]) >= 90]
    return Person(
        height=int(generator.randint(86, 101)),
        girth=int(generator.randint(84, 122)),
        skin=dye(pick(SKINS)),
        hair=pick(HAIR),
        hair_color=dye(pick(HAIR_COLORS)),
        hat=pick(HATS),
        hat_color=dye(pick(GARMENTS)),
        upper=dye(GARMENTS[upper]),
        upper_second=dye(pick(others)),
        pattern=pattern,
        sleeves=pick(('long', 'short')),
        lower=pick(LOWERS),
        lower_color=dye(GARMENTS[lower]),
        striped_legs=bool(generator.randint(3) == 0),
        shoes=dye(pick(GARMENTS)),
        bag=bag,
        bag_color=dye(pick(bag_colors)),
    )


def contrast(first: Sequence[int], second: Sequence[int]) -> int:
    """How far two colours are apart: the sum over the channels."""
    return sum(abs(a - b) for a, b in zip(first, second, strict=True))


def draw_surroundings(camera: int) -> np.ndarray:
    """What a camera looks at, (H, W, 3) uint8: a wall with posts and windows, and the ground."""
    height = HEIGHT + 24
    horizon = height * 6 // 10 + camera * 3
    return draw_place(RandomState(SEED + 100 + camera), height, 12 * WIDTH, horizon)


def draw_place(generator: RandomState, height: int, width: int, horizon: int) -> np.ndarray:
    """A wall with posts and windows above the row ``horizon``, and the ground: (H, W, 3) uint8."""
    scene = draw_texture(generator, height, width)
    for _ in range(14):
        left, top = int(generator.randint(width)), int(generator.randint(height // 2))
        right = left + int(generator.randint(6, 40))
        bottom = top + int(generator.randint(12, 60))
        scene[top:bottom, left:right] = generator.randint(30, 226, 3)
    scene[horizon:] = draw_texture(generator, height - horizon, width)
    # Walls and streets are greyer than clothes.
    grey = scene.sum(2, dtype=np.int32, keepdims=True) // 3
    return ((scene + 2 * grey) // 3).astype(np.uint8)


def take_picture(
    generator: RandomState, person: Person, camera: int, surroundings: np.ndarray, frame: str
) -> np.ndarray:
    """A picture of a person as a camera sees it, (``HEIGHT``, ``WIDTH``, 3) uint8 in BGR.

    Args:
        generator: Gives pose, place, light, and what is in the way.
        person: Who.
        camera: Index into ``CAMERAS``.
        surroundings: (H, W, 3) uint8, what the camera looks at; a random part becomes the
            background.
        frame: ``'whole'``, or ``'cut'``: a detector's box that holds less than half of a person.
    """
    top = int(generator.randint(surroundings.shape[0] - HEIGHT + 1))
    left = int(generator.randint(surroundings.shape[1] - WIDTH + 1))
    picture = surroundings[top : top + HEIGHT, left : left + WIDTH].copy()
    light = int(generator.randint(-30, 31))
    if generator.randint(100) < PASSED:
        passer = draw_people(generator, 1)[0]
        side = int(generator.choice((-1, 1)))
        center = WIDTH // 2 + side * int(generator.randint(24, 34))
        soles, size = int(generator.randint(104, 118)), int(generator.randint(90, 104))
        draw_person(picture, passer, _pose(generator, camera, center, soles, size), light)
    center = WIDTH // 2 + int(generator.randint(-5, 6))
    soles, size = int(generator.randint(117, 126)), int(generator.randint(104, 121))
    if frame == 'cut':
        center += int(generator.choice((-1, 1))) * 26
        soles += int(generator.choice((-1, 1))) * 68
    draw_person(picture, person, _pose(generator, camera, center, soles, size), light)
    if generator.randint(100) < OCCLUDED:
        occlude(generator, picture)
    return expose(generator, picture, CAMERAS[camera])


def _pose(generator: RandomState, camera: int, center: int, soles: int, size: int) -> Pose:
    limits = np.cumsum(CAMERAS[camera].views)
    view = VIEWS[int(np.searchsorted(limits, generator.randint(100), side='right'))]
    return Pose(view, int(generator.randint(360)), center, soles, size)


def occlude(generator: RandomState, picture: np.ndarray) -> None:
    """Put a post, or something low such as a hedge, in front of the person."""
    if generator.randint(2):
        width = int(generator.randint(6, 12))
        left = int(generator.randint(8, WIDTH - 8 - width))
        part = picture[:, left : left + width]
    else:
        part = picture[HEIGHT - int(generator.randint(16, 40)) :]
    part[...] = draw_texture(generator, *part.shape[:2])


def expose(
    generator: RandomState, picture: np.ndarray, camera: Camera, exposure: int | None = None
) -> np.ndarray:
    """What a camera makes of the light that falls on it.

    ``exposure``: how bright, in percent; random by default.
    """
    if exposure is None:
        exposure = int(generator.randint(86, 115))
    height, width = picture.shape[:2]
    light = picture.astype(np.int32) @ np.array(camera.mix, np.int32).T
    light = np.clip(light * exposure // 10000 + camera.lift, 0, 255)
    tones = np.round(255 * (np.arange(256) / 255) ** (camera.gamma / 100)).astype(np.int32)
    light = tones[light]
    if camera.blur > 1:
        size = (camera.blur, camera.blur)
        sums = cv2.boxFilter(light, cv2.CV_32S, size, None, (-1, -1), False, cv2.BORDER_REPLICATE)
        light = sums // camera.blur**2
    if camera.rows < HEIGHT:
        rows = camera.rows * height // HEIGHT
        small = (rows * width // height, rows)
        light = cv2.resize(light.astype(np.uint8), small, interpolation=cv2.INTER_LINEAR_EXACT)
        light = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    noise = generator.randint(-camera.noise, camera.noise + 1, (height // 2 + 1, width // 2 + 1))
    light = light.astype(np.int32) + enlarge(noise, 2, height, width)[..., None]
    return np.clip(light, 0, 255).astype(np.uint8)


def build_walkers(folder: Path) -> None:
    """Write ``bounding_box_train``, ``query`` and ``bounding_box_test`` into ``folder``."""
    for name in FOLDERS.values():
        (folder / name).mkdir()
    scenes = [draw_surroundings(camera) for camera in range(len(CAMERAS))]
    first = 1
    for number, (split, count) in enumerate(NUM_PEOPLE.items()):
        people = draw_people(RandomState(SEED + number), count)
        for pid, person in enumerate(people, first):
            generator = RandomState(SEED + 1000 + pid)
            for camera, scene in enumerate(scenes):
                for shot in range(PICTURES_A_CAMERA):
                    subset = split if split == 'train' else 'gallery' if shot else 'query'
                    picture = take_picture(generator, person, camera, scene, 'whole')
                    _write(folder / FOLDERS[subset], pid, camera, shot, picture)
        first += count
    # People of neither split (0), and boxes that hold too little of a test person (-1).
    generator = RandomState(SEED + 10)
    others = (
        (0, 'whole', draw_people(generator, NUM_DISTRACTORS)),
        (-1, 'cut', draw_people(RandomState(SEED + 1), NUM_JUNK)),
    )
    for pid, frame, people in others:
        for shot, person in enumerate(people):
            camera = shot % len(CAMERAS)
            picture = take_picture(generator, person, camera, scenes[camera], frame)
            _write(folder / FOLDERS['gallery'], pid, camera, shot, picture)


def _write(folder: Path, pid: int, camera: int, shot: int, picture: np.ndarray) -> None:
    name = '-1' if pid < 0 else f'{pid:04d}'
    file = folder / f'{name}_c{camera + 1}s1_{(pid + 1) * 100 + shot:06d}_00.jpg'
    if not cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise DataError(f'{file} cannot be written')


def make_walkers(data_root: str | Path | None = None) -> Path:
    """Make the files if they are not there yet; returns their folder."""
    return make_once(data_root or DATA_ROOT, build_walkers, version='2')
