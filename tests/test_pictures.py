"""Pictures with text, and sheets of them: nothing is cut off, and little is left white."""

from __future__ import annotations

import numpy as np
import pytest

from effvit_mm.visualization.pictures import (
    GAP,
    MAX_SHEET,
    contact_sheet,
    draw_classification,
    draw_objects,
    side_by_side,
)

NAME = 'long-tailed macaque of the mountains'


def dark(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 60, np.uint8)


def ink(picture: np.ndarray) -> np.ndarray:
    """Columns that are not of one colour alone."""
    return (picture != picture[:1, :1]).any(axis=(0, 2))


@pytest.mark.parametrize('size', [(300, 40), (300, 150), (60, 20), (8, 8), (200, 600)])
def test_captions_are_whole_and_large_enough_to_be_read(size):
    long, short = (
        draw_classification(dark(*size), name, 'cat', True) for name in (f'{NAME} (0.98)', 'cat')
    )
    bands = [picture[-42:-20] for picture in (long, short)]  # the first of the two lines
    assert ink(bands[0]).any() and not ink(bands[0])[-2:].any()
    letters = [np.flatnonzero((band < 200).any((1, 2))) for band in bands]
    heights = [rows[-1] - rows[0] for rows in letters]
    assert heights[0] >= 0.7 * heights[1] > 0
    assert long.shape[0] - 42 <= max(size[0], 1.5 * 224)  # enlarged, by a whole factor


def test_tags_of_narrow_pictures_are_whole():
    box = np.array([[5, 5, 35, 100]])
    picture = draw_objects(dark(300, 40), box, [0], [0.9], names=[NAME], palette=[(0, 0, 0)])
    tag = picture[20:30]  # white letters on black
    columns = np.flatnonzero((tag > 100).any((0, 2)))
    assert columns[-1] - columns[0] > 0.9 * picture.shape[1] - 10
    assert columns[-1] < tag.shape[1] - 1


def test_titles_of_narrow_pictures_stand_apart():
    picture = side_by_side([dark(100, 20)] * 2, ['truth', 'predicted (>= 0.3)'])
    band = ink(picture[-24:])
    first = picture[-24:, : picture.shape[1] // 2]
    assert band.any() and ink(first).any() and not band[-2:].any()


def used(sheet: np.ndarray) -> float:
    return (sheet < 255).any(2).mean()


@pytest.mark.parametrize('number', [1, 2, 3, 4, 9, 16])
def test_equal_pictures_fill_a_sheet(number):
    sheet = contact_sheet([dark(160, 160)] * number)
    columns = int(np.ceil(np.sqrt(number)))
    rows = -(-number // columns)
    assert sheet.shape[:2] == (rows * (160 + GAP) + GAP, columns * (160 + GAP) + GAP)
    assert np.isclose((sheet < 255).any(2).sum(), number * 160 * 160)


def test_a_sheet_of_detections_is_no_wider_than_a_screen_and_mostly_pictures():
    generator = np.random.default_rng(0)
    shapes = [(480, 640), (640, 480), (427, 640), (300, 500), (1080, 1920), (640, 40)]
    pictures = [dark(*shapes[i]) for i in generator.integers(0, 6, 16)]
    sheet = contact_sheet([side_by_side([p, p], ['truth', 'predicted']) for p in pictures])
    assert sheet.shape[1] <= MAX_SHEET and sheet.shape[0] < 1.5 * MAX_SHEET
    assert used(sheet) > 0.6


def test_a_picture_of_another_shape_does_not_make_the_sheet_white():
    pictures = [dark(100, 100)] * 8
    for other in (dark(100, 3000), dark(3000, 100), dark(1, 1)):
        sheet = contact_sheet([*pictures, other])
        assert sheet.shape[1] == 3 * (100 + GAP) + GAP and used(sheet) > 0.6
