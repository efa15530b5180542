"""How a COCO-style file writes ids, names, places and boxes does not count, or is told."""

from __future__ import annotations

import json

import pytest
from coco_sets import make_coco, write
from remedies import tries

from effvit_mm.openmm.datasets.coco_check import CocoSource, check_coco
from effvit_mm.openmm.datasets.coco_format import read_coco


def change_all(part: str, key: str, change):
    def edit_all(data):
        for record in data[part]:
            record[key] = change(record[key])

    return edit_all


@pytest.mark.parametrize(
    'changes',
    [
        [change_all('annotations', 'category_id', str)],
        [change_all('annotations', 'image_id', str), change_all('categories', 'id', float)],
        [change_all('categories', 'name', '{} '.format)],
        [change_all('images', 'id', float), change_all('annotations', 'category_id', float)],
    ],
)
def test_how_ids_and_names_are_written_does_not_count(tmp_path, changes):
    """Tables of numbers make 3.0 of 3, and text of everything."""
    data = make_coco(tmp_path)
    plain = read_coco(tmp_path / 'train.json')
    for change in changes:
        change(data)
    assert read_coco(write(tmp_path, data)) == plain
    assert check_coco(CocoSource(tmp_path / 'train.json', tmp_path / 'images')).findings == []


@tries('is there: write file_name so')
@tries(': leave the folder out of file_name')
def test_where_an_image_lies_that_is_not_where_the_file_says(tmp_path):
    data = make_coco(tmp_path)

    def messages(folder: str, change) -> list[str]:
        other = json.loads(json.dumps(data))
        change_all('images', 'file_name', change)(other)
        report = check_coco(CocoSource(write(tmp_path, other), tmp_path / folder))
        return [finding.detail for finding in report.fatal().get('missing_image', [])]

    (first, *_) = messages('images', 'images/{}'.format)
    assert first.endswith(f'the folder in data_prefix must be {tmp_path}')
    assert messages('', 'images/{}'.format) == []
    (first, *_) = messages('images', 'C:\\Users\\me\\{}'.format)
    assert first.endswith(f'{tmp_path}/images/0.png is there: leave the folder out of file_name')
    assert messages('', 'images\\{}'.format) == []
    (tmp_path / 'images' / '0.png').rename(tmp_path / 'images' / 'a b0.png')
    for written in ('A B{}', 'a%20b{}', 'a b{} '):
        first = messages('images', lambda name, text=written: text.format(name))[0]
        assert first.endswith(f'{tmp_path}/images/a b0.png is there: write file_name so')
    missing = messages('images', lambda name: 'a b0.png' if name == '0.png' else name)
    assert missing == []


def test_boxes_that_are_corners_are_told(tmp_path):
    data = make_coco(tmp_path)

    def kinds():
        return list(check_coco(CocoSource(write(tmp_path, data))).lost())

    assert kinds() == []
    for annotation in data['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]
    assert kinds() == ['corner_boxes']
    data['annotations'][0]['bbox'] = [20, 10, 9, 8]  # which are none
    assert kinds() == []
