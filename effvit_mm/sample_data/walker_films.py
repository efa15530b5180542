"""Films of drawn pedestrians: who walks where, what hides them, and what a camera sees of it.

All is computed with whole numbers and NumPy's frozen generator: every machine draws the same
frames. Columns are in sixteenths of a pixel, depth is 0 at the wall and 100 at the lower edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from .scenes import draw_texture, tight_box
from .walker_drawing import Figure, Person, Pose
from .walkers import Camera, draw_place, expose

WIDTH, HEIGHT, FPS = 320, 240, 10
MARGIN = 96  # around the picture, so that nobody is cut while being drawn
UNIT = 16
EXIT_DEPTH = 125
FREE = -1  # of who is seen in a pixel: nobody


@dataclass(frozen=True)
class Stand:
    """Something that people walk behind: columns, upper and lower row in pixels, and its depth."""

    left: int
    right: int
    top: int
    depth: int


@dataclass(frozen=True)
class Place:
    """A camera and what it looks at.

    Attributes:
        seed: Of the background's pixels, the light and the noise.
        camera: What it makes of colours.
        wall: Row at which the wall meets the ground.
        sizes: Pixels of a person of height 100 at the wall and at the lower edge.
        stands: What hides people.
    """

    seed: int
    camera: Camera
    wall: int
    sizes: tuple[int, int]
    stands: tuple[Stand, ...] = ()

    def soles(self, depth: int) -> int:
        """Row of the soles of someone at a depth."""
        return self.wall + (HEIGHT - 6 - self.wall) * depth // 100

    def size(self, depth: int) -> int:
        """Pixels of a person of height 100 at a depth."""
        far, near = self.sizes
        return far + (near - far) * depth // 100


@dataclass(frozen=True)
class Walk:
    """A person's way through the picture.

    Attributes:
        person: Index of who.
        start: The frame of the first step.
        view: The side that the camera sees.
        column, depth: Where it begins: in units, and in hundredths of depth.
        step: What is added to both a frame.
        stop: Where it is interrupted, in units; None for never.
        pause: For how many frames.
        turns: Then goes back.
    """

    person: int
    start: int
    view: str
    column: int
    depth: int
    step: tuple[int, int]
    stop: int | None = None
    pause: int = 0
    turns: bool = False


@dataclass(frozen=True)
class Step:
    """Where a person is in a frame: column in pixels, depth, view, phase in degrees."""

    person: int
    column: int
    depth: int
    view: str
    phase: int


@dataclass(frozen=True)
class Seen:
    """A person in a frame.

    Attributes:
        person: Index of who.
        box: Left, top, width, height in pixels of all of the body, what is hidden or beyond the
            picture's edge included.
        visible: Percent of the body that is seen.
    """

    person: int
    box: tuple[int, int, int, int]
    visible: int


def steps(walk: Walk) -> Iterator[tuple[int, Step]]:
    """Frames and places of a walk, until it leaves the picture."""
    frame, column, depth, view, done = walk.start, walk.column, walk.depth, walk.view, 0
    across, towards = walk.step
    edge = (WIDTH + MARGIN // 2) * UNIT
    paused = walk.pause if walk.stop is not None else 0
    while -MARGIN // 2 * UNIT <= column <= edge and 0 <= depth <= EXIT_DEPTH * 100:
        pace = abs(across) + abs(towards)
        yield (
            frame,
            Step(walk.person, column // UNIT, depth // 100, view, done * pace * 3 // 16 % 360),
        )
        frame += 1
        if paused and abs(column - walk.stop) < abs(across):
            paused -= 1
            if paused:
                continue
            if walk.turns:
                across, view = -across, {'left': 'right', 'right': 'left'}[view]
        column, depth, done = column + across, depth + towards, done + 1


def plan_walks(generator: RandomState, place: Place, people: int, gap: int) -> list[Walk]:
    """A walk for each person, in random order, one starting every ``gap`` frames."""
    return [
        _plan_walk(generator, place, int(person), turn * gap)
        for turn, person in enumerate(generator.permutation(people))
    ]


def _plan_walk(generator: RandomState, place: Place, person: int, start: int) -> Walk:
    def between(low: int, high: int) -> int:
        return int(generator.randint(low, high))

    if between(0, 100) < 25:  # from the wall to the camera, or back
        towards = between(140, 210)
        column = between(40, WIDTH - 40) * UNIT
        step = (between(-12, 13), towards)
        if between(0, 2):
            return Walk(person, start, 'front', column, 0, step)
        return Walk(person, start, 'back', column, 120 * 100, (step[0], -towards))
    depth = between(5, 90)
    pace = place.size(depth) * between(11, 16) // 16  # units a frame
    drift = between(-20, 21)
    left = bool(between(0, 2))
    view, column = ('left', WIDTH + 20) if left else ('right', -20)
    behind = [stand for stand in place.stands if stand.depth > depth + 10]
    stop, pause, turns = None, 0, False
    if behind and between(0, 100) < 60:
        stand = behind[between(0, len(behind))]
        stop, pause = (stand.left + stand.right) // 2 * UNIT, between(4, 14)
        turns, drift = between(0, 100) < 35, 0
    across = -pace if left else pace
    return Walk(
        person, start, view, column * UNIT, depth * 100, (across, drift), stop, pause, turns
    )


def cast(walks: Sequence[Walk]) -> dict[int, list[Step]]:
    """Who is where in which frame."""
    frames: dict[int, list[Step]] = {}
    for walk in walks:
        for frame, step in steps(walk):
            frames.setdefault(frame, []).append(step)
    return frames


class Film:
    """Frames of a place in which people walk.

    Args:
        place: The place.
        people: All who may walk there.
        walks: Who does, and where.
    """

    def __init__(self, place: Place, people: Sequence[Person], walks: Sequence[Walk]) -> None:
        self.place, self.people = place, people
        self.cast = cast(walks)
        self.length = max(self.cast) + 1
        generator = RandomState(place.seed)
        wide, high = WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN
        self._background = draw_place(generator, high, wide, place.wall + MARGIN)
        self._stands = [
            (
                stand,
                draw_texture(
                    generator, place.soles(stand.depth) - stand.top, stand.right - stand.left
                ),
            )
            for stand in place.stands
        ]

    def draw(self, frame: int) -> tuple[np.ndarray, list[Seen]]:
        """A frame, (``HEIGHT``, ``WIDTH``, 3) uint8 in BGR, and who is in it."""
        canvas = self._background.copy()
        seen_by = np.full(canvas.shape[:2], FREE, np.int32)  # which person each pixel shows
        bodies = {}
        actors = [(step.depth, 0, number, step) for number, step in enumerate(self._cast(frame))]
        actors += [
            (stand.depth, 1, n, (stand, look)) for n, (stand, look) in enumerate(self._stands)
        ]
        for _, kind, _, what in sorted(actors, key=lambda actor: actor[:3]):
            if kind == 0:
                bodies[what.person] = self._draw_person(canvas, seen_by, what)
            else:
                stand, look = what
                rows = slice(stand.top + MARGIN, stand.top + MARGIN + len(look))
                columns = slice(stand.left + MARGIN, stand.right + MARGIN)
                canvas[rows, columns], seen_by[rows, columns] = look, FREE
        inner = slice(MARGIN, MARGIN + HEIGHT), slice(MARGIN, MARGIN + WIDTH)
        seen = [
            Seen(person, box, 100 * int((seen_by[inner] == person).sum()) // size)
            for person, (box, size) in bodies.items()
        ]
        generator = RandomState(self.place.seed * 10007 + frame)
        picture = expose(generator, canvas[inner], self.place.camera, 100 + frame // 20 % 5)
        return picture, seen

    def _cast(self, frame: int) -> list[Step]:
        return self.cast.get(frame, [])

    def _draw_person(
        self, canvas: np.ndarray, seen_by: np.ndarray, step: Step
    ) -> tuple[tuple[int, int, int, int], int]:
        """Draw someone into ``canvas`` and ``seen_by``; gives box and number of pixels."""
        size, soles = self.place.size(step.depth), self.place.soles(step.depth)
        half = size * 3 // 10
        top = max(soles + MARGIN - size - 6, 0)
        bottom = min(soles + MARGIN + size // 12, len(canvas))
        left = max(step.column + MARGIN - half, 0)
        right = min(step.column + MARGIN + half, canvas.shape[1])
        window = slice(top, bottom), slice(left, right)
        pose = Pose(step.view, step.phase, step.column + MARGIN - left, soles + MARGIN - top, size)
        picture = canvas[window]
        figure = Figure(self.people[step.person], pose, picture.shape[:2])
        figure.draw()
        figure.paste(picture)
        mask = figure.mask()
        seen_by[window][mask] = step.person
        x, y, width, height = tight_box(mask)
        return (x + left - MARGIN, y + top - MARGIN, width, height), int(mask.sum())
