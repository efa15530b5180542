"""Drawing of one walking person: clothes, hair, bags, in four views and any phase of the step.

Lengths are in hundredths of the body's height, places are (x, y) with y from the crown (0) down to
the soles (100) and x to the right of the picture. A person is drawn ``SCALE`` times enlarged, from
polygons and thick lines, and averaged down: edges come out smooth with whole numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SCALE = 4
VIEWS = ('front', 'back', 'left', 'right')
HAIR = ('short', 'long', 'bun', 'bald')
HATS = ('none', 'cap', 'beanie')
LOWERS = ('trousers', 'shorts', 'skirt')
BAGS = ('none', 'backpack', 'satchel', 'tote')

STRIPE = 48  # tenths of a hundredth of the body's height
# Where a garment has its second colour, by columns and rows in the same unit.
SECOND_COLOR = {
    'plain': lambda x, y: np.zeros(x.shape, bool),
    'rings': lambda x, y: y // STRIPE % 2 == 1,
    'bars': lambda x, y: (x + STRIPE // 2) // STRIPE % 2 == 1,
    'checks': lambda x, y: (y // STRIPE + (x + STRIPE // 2) // STRIPE) % 2 == 1,
    'halves': lambda x, y: y > 345,
    'band': lambda x, y: (y > 255) & (y < 340),
    'dots': lambda x, y: (x % 72 - 36) ** 2 + (y % 72 - 36) ** 2 < 23**2,
    'slanted': lambda x, y: (x + y) // 60 % 2 == 1,
}
PATTERNS = tuple(SECOND_COLOR)

Color = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Person:
    """What somebody looks like to every camera; colours in BGR.

    Attributes:
        height: Percent of the tallest person's.
        girth: Percent of the average build's widths.
        sleeves: ``'long'`` or ``'short'``.
        striped_legs: A stripe of the upper's second colour runs down trousers and shorts.
    """

    height: int
    girth: int
    skin: Color
    hair: str
    hair_color: Color
    hat: str
    hat_color: Color
    upper: Color
    upper_second: Color
    pattern: str
    sleeves: str
    lower: str
    lower_color: Color
    striped_legs: bool
    shoes: Color
    bag: str
    bag_color: Color


@dataclass(frozen=True)
class Pose:
    """How a person stands in a picture.

    Attributes:
        view: One of ``VIEWS``: what the camera sees of the person.
        phase: Of the step, in degrees.
        center: Column of the body's middle, in pixels of the picture.
        soles: Row of the soles.
        size: Pixels of a person of height 100.
    """

    view: str
    phase: int
    center: int
    soles: int
    size: int


class Figure:
    """A layer with one person on it, for a picture of ``shape`` (H, W)."""

    def __init__(self, person: Person, pose: Pose, shape: tuple[int, int]) -> None:
        self.person, self.pose = person, pose
        height, width = (side * SCALE for side in shape)
        self.layer = np.zeros((height, width, 3), np.uint8)
        self.cover = np.zeros((height, width), np.uint8)
        self.unit = pose.size * SCALE * person.height / 10000
        self.wide = person.girth / 100
        self.side = pose.view in ('left', 'right')
        # Which way the person walks in the picture: +1 to the right.
        self.ahead = -1 if pose.view == 'left' else 1
        # On which side of the picture the person's left hand is.
        self.left_hand = -1 if pose.view == 'back' else 1
        self.swing = math.sin(math.radians(pose.phase))

    # Painting --------------------------------------------------------------------------------

    def pixels(self, points: Sequence[Point]) -> np.ndarray:
        """The pixels of places on the body: (N, 2) int32."""
        center, soles = self.pose.center * SCALE, self.pose.soles * SCALE
        places = [(center + x * self.unit, soles + (y - 100) * self.unit) for x, y in points]
        return np.rint(places).astype(np.int32)

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon."""
        corners = self.pixels(points)
        cv2.fillPoly(self.layer, [corners], color)
        cv2.fillPoly(self.cover, [corners], 1)

    def line(self, points: Sequence[Point], thickness: float, color: Color) -> None:
        """Draw a line with round ends and joints."""
        corners = self.pixels(points)
        width = max(1, round(thickness * self.unit))
        cv2.polylines(self.layer, [corners], False, color, width)
        cv2.polylines(self.cover, [corners], False, 1, width)

    def oval(self, center: Point, half: Point, color: Color, rows: Point = (-9e9, 9e9)) -> None:
        """Fill an ellipse between two rows of the body."""
        places = [
            (center[0] + half[0] * math.cos(a), center[1] + half[1] * math.sin(a))
            for a in np.arange(32) * (math.pi / 16)
        ]
        self.polygon([(x, min(max(y, rows[0]), rows[1])) for x, y in places], color)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """Fill a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], color)

    # The body, from what is behind to what is in front -----------------------------------------

    def draw(self) -> None:
        """Draw all of it."""
        self.bag_behind()
        if self.side:
            self.arm(-1)
        self.leg(-1)
        self.leg(1)
        self.skirt()
        self.torso()
        self.head()
        if not self.side:
            self.arm(-1)
        self.arm(1)
        self.bag_in_front()

    def leg(self, which: int) -> None:
        """A leg with its shoe; ``which``: -1 the far or left one, 1 the near or right one."""
        p, swing = self.person, self.swing * which
        if self.side:
            hip, foot = (0.0, 50.0), (self.ahead * 13 * swing, 97 - 2 * max(0.0, -swing))
            knee = (foot[0] * 0.45 + self.ahead * 2.2, 73.0)
            toe = (foot[0] + self.ahead * 4.5, foot[1] + 1)
        else:
            x = 4.3 * which * self.wide
            hip, foot = (x, 50.0), (x * 1.05, 96.5 - 3 * max(0.0, swing))
            knee, toe = (x * 1.05, 73.0), (foot[0], foot[1] + 1)
        thick = 7.6 * self.wide
        bare = p.skin if p.lower != 'trousers' else p.lower_color
        self.line([knee, foot], thick * 0.78, bare)
        above = p.skin if p.lower == 'skirt' else p.lower_color
        self.line([hip, knee], thick, above)
        if p.striped_legs and p.lower != 'skirt':
            shift = 0.0 if self.side else 2.4 * which
            ends = [hip, knee] if p.lower == 'shorts' else [hip, knee, foot]
            self.line([(x + shift, y) for x, y in ends], 1.8, p.upper_second)
        self.line([foot, toe], 4.4, p.shoes)

    def skirt(self) -> None:
        """The hips, and a skirt below them."""
        color, half = self.person.lower_color, (6.6 if self.side else 8.0) * self.wide
        self.box(-half, 46, half, 53, color)
        if self.person.lower == 'skirt':
            flare = half * 1.35
            self.polygon([(-half, 50), (half, 50), (flare, 71), (-flare, 71)], color)

    def torso(self) -> None:
        """The upper garment with its pattern, and the neck."""
        half, hips = (self.wide * x for x in ((6.4, 6.4) if self.side else (10.4, 8.2)))
        neck = self.ahead * 1.0 if self.side else 0.0
        self.line([(neck, 11), (neck, 18)], 4.6, self.person.skin)
        corners = [
            (-3.4, 15.6), (3.4, 15.6), (half - 1.5, 17.5), (half, 20.5), (half * 0.9, 34),
            (hips, 50), (-hips, 50), (-half * 0.9, 34), (-half, 20.5), (-half + 1.5, 17.5),
        ]  # fmt: skip
        self.polygon(corners, self.person.upper)
        self.decorate(corners)

    def decorate(self, corners: Sequence[Point]) -> None:
        """Lay the pattern over a garment's outline."""
        rows, columns = np.arange(len(self.cover)), np.arange(self.cover.shape[1])
        tenths = round(10 * 1024 / self.unit)
        x, y = np.meshgrid(
            (columns - self.pose.center * SCALE) * tenths >> 10,
            1000 + ((rows - self.pose.soles * SCALE) * tenths >> 10),
        )
        inside = np.zeros_like(self.cover)
        cv2.fillPoly(inside, [self.pixels(corners)], 1)
        shown = SECOND_COLOR[self.person.pattern](x, y) & (inside > 0)
        self.layer[shown] = self.person.upper_second

    def arm(self, which: int) -> None:
        """An arm; the far one of a side view hides behind the body."""
        shoulder, elbow, hand = self.arm_places(which)
        p, thick = self.person, 4.8 * self.wide
        self.line([elbow, hand], thick * 0.8, p.skin if p.sleeves == 'short' else p.upper)
        self.line([shoulder, elbow], thick, p.upper)
        self.line([hand, (hand[0], hand[1] + 2.5)], 3.4, p.skin)

    def arm_places(self, which: int) -> tuple[Point, Point, Point]:
        """Shoulder, elbow and hand."""
        swing = -self.swing * which
        if self.side:
            bend = self.ahead * 2.5
            elbow, hand = self.ahead * 5 * swing - bend * 0.4, self.ahead * 9 * swing + bend
            return (0.0, 20.5), (elbow, 35.0), (hand, 48.0 - abs(swing) * 2)
        x = which * 11.2 * self.wide
        return (x * 0.94, 20.5), (x + which * 1.6, 35.0), (x + which * (1.8 - swing), 48 - swing)

    def head(self) -> None:
        """Head, hair and hat."""
        p, view = self.person, self.pose.view
        x = self.ahead * 1.6 if self.side else 0.0
        if p.hair == 'long':
            back = x - self.ahead * 2.2 if self.side else 0.0
            half = 4.2 if self.side else 5.6
            end = 25.0 if view == 'back' else 20.0
            self.oval((back, 12), (half, 12), p.hair_color, (0, end))
        half = 5.0 if self.side else 4.6
        self.oval((x, 7.4), (half, 7.2), p.skin)
        if p.hair != 'bald':
            self.hair(x, half)
        if p.hat != 'none':
            self.oval((x, 5.6), (half + 0.8, 6.4), p.hat_color, (-9, 5.2))
            self.hat_details(x, half)

    def hair(self, x: float, half: float) -> None:
        """Hair as the view shows it, over the head."""
        p, view = self.person, self.pose.view
        if view == 'back':
            end = 24.0 if p.hair == 'long' else 11.5
            self.oval(
                (x, 8.2 if p.hair != 'long' else 12), (half + 0.5, 8.4), p.hair_color, (-9, end)
            )
            if p.hair == 'long':
                self.box(x - half, 8, x + half, end, p.hair_color)
        else:
            self.oval((x, 6.2), (half + 0.5, 6.8), p.hair_color, (-9, 3.8))
        if self.side:
            behind = x - self.ahead * 2.6
            self.oval((behind, 6.4), (3.2, 5.8), p.hair_color)
        if p.hair == 'bun':
            back = x - self.ahead * 5.2 if self.side else x
            self.oval((back, 1.0 if not self.side else 3.5), (3.0, 3.0), p.hair_color)

    def hat_details(self, x: float, half: float) -> None:
        """A cap's peak, or a beanie's brim and bobble."""
        p = self.person
        if p.hat == 'beanie':
            self.box(x - half - 0.8, 3.6, x + half + 0.8, 6.4, p.hat_color)
            self.oval((x, -1.6), (2.0, 2.0), p.hat_color)
        elif self.side:
            self.line([(x, 5.0), (x + self.ahead * 8, 5.4)], 1.8, p.hat_color)
        elif self.pose.view == 'front':
            self.oval((x, 5.4), (half + 0.6, 1.9), p.hat_color)

    def bag_behind(self) -> None:
        """Bags that the body hides in part."""
        p, behind = self.person, -self.ahead
        if p.bag == 'backpack' and self.side:
            inner, outer = behind * 4 * self.wide, behind * (6.4 * self.wide + 7.5)
            self.polygon(
                [(inner, 18), (outer * 0.85, 19), (outer, 24), (outer, 41), (inner, 44)],
                p.bag_color,
            )
        elif p.bag == 'satchel' and self.pose.view == 'right':
            self.box(-7.5, 45, 7.5, 57, p.bag_color)
        elif p.bag == 'tote' and self.pose.view == 'left':
            self.tote(-1)

    def bag_in_front(self) -> None:
        """Bags that hide the body, and straps."""
        p, half = self.person, 10.4 * self.wide
        if p.bag == 'backpack':
            if self.pose.view == 'back':
                self.box(-half * 0.78, 19, half * 0.78, 44, p.bag_color)
                self.box(-half * 0.5, 33, half * 0.5, 34.5, p.shoes)
            else:
                for x in (1.5,) if self.side else (-half * 0.55, half * 0.55):
                    self.line([(x, 17), (x, 36)], 2.2, p.bag_color)
        elif p.bag == 'satchel':
            hip = self.left_hand * (8.2 * self.wide + 2.5)
            if not self.side:
                self.line([(-hip * 0.7, 17.5), (hip, 47)], 1.8, p.bag_color)
                self.box(hip - 5.5, 45, hip + 5.5, 57, p.bag_color)
            else:
                self.line([(self.ahead * 2, 17.5), (0, 46)], 1.8, p.bag_color)
                if self.pose.view == 'left':
                    self.box(-7, 45, 7, 57, p.bag_color)
        elif p.bag == 'tote' and self.pose.view != 'left':
            self.tote(1 if self.side else -self.left_hand)

    def tote(self, which: int) -> None:
        """A bag that hangs from a hand."""
        x, y = self.arm_places(which)[2]
        self.line([(x, y + 2), (x, y + 6)], 1.4, self.person.bag_color)
        self.box(x - 6, y + 6, x + 6, y + 19, self.person.bag_color)

    # Onto a picture ----------------------------------------------------------------------------

    def paste(self, picture: np.ndarray, light: int = 0) -> None:
        """Put the person onto a picture of the layer's shape, (H, W, 3) uint8, in place.

        ``light``: percent by which the right side is brighter than the middle.
        """
        width = picture.shape[1]
        color = _block_sums(self.layer * self.cover[..., None])
        cover = _block_sums(self.cover)[..., None]
        across = (np.arange(width, dtype=np.int32) - self.pose.center) * 4 * light // width
        color = color * (100 + across[None, :, None]) // 100
        mixed = (picture * (SCALE**2 - cover) + color) // SCALE**2
        picture[...] = np.clip(mixed, 0, 255).astype(np.uint8)

    def mask(self) -> np.ndarray:
        """The pixels of the picture that the person fills by half or more: (H, W) bool."""
        return _block_sums(self.cover) >= SCALE**2 // 2


def _block_sums(values: np.ndarray) -> np.ndarray:
    """Sums over squares of ``SCALE``: (H * SCALE, W * SCALE, ...) uint8 to (H, W, ...) int32."""
    rows = sum(values[i::SCALE].astype(np.uint16) for i in range(SCALE))
    return sum(rows[:, i::SCALE] for i in range(SCALE)).astype(np.int32)


def draw_person(picture: np.ndarray, person: Person, pose: Pose, light: int = 0) -> None:
    """Draw a person onto a picture (H, W, 3) uint8 in BGR, in place.

    ``light``: percent by which the right side is brighter than the middle.
    """
    figure = Figure(person, pose, picture.shape[:2])
    figure.draw()
    figure.paste(picture, light)
