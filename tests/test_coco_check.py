"""Each fault of a COCO-style set is found, counted and explained; a clean set has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from coco_sets import NAMES, SIZE, make_coco, write
from programs import load_tool

from effvit_mm.errors import DataError
from effvit_mm.openmm.datasets.coco_check import KINDS, CocoSource, check_coco
from effvit_mm.openmm.datasets.coco_format import read_coco
from effvit_mm.openmm.datasets.coco_report import format_report, to_dict, to_markdown


@pytest.fixture
def root(tmp_path):
    make_coco(tmp_path)
    return tmp_path


def source(root: Path, **options) -> CocoSource:
    return CocoSource(root / 'train.json', root / 'images', with_masks=True, **options)


def found(root: Path, change=None, read_images: bool = False, **options) -> dict[str, list]:
    """The kinds of faults after ``change`` has spoilt the annotations."""
    data = read_coco(root / 'train.json')
    if change is not None:
        change(data)
        write(root, data)
    return check_coco(source(root, **options), read_images).by_kind()


@pytest.mark.parametrize('read_images', [False, True])
def test_a_clean_set_has_no_faults(root, read_images):
    report = check_coco(source(root, classes=NAMES), read_images)
    assert report.findings == []
    assert (report.num_images, report.num_annotations) == (3, 6)
    assert dict(report.boxes) == dict.fromkeys(NAMES, 2)


def edit(index: int = 0, **values):
    """Change an annotation; None takes the key away."""

    def change(data):
        annotation = data['annotations'][index]
        annotation.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del annotation[key]

    return change


def edit_image(index: int = 0, **values):
    return lambda data: data['images'][index].update(values)


ANNOTATION_FAULTS = [
    ('inverted_box', edit(bbox=[20, 4, -18, 20]), 'box 20, 4, -18 x 20'),
    ('empty_box', edit(bbox=[2, 4, 0, 20]), '0 x 20'),
    ('empty_box', edit(bbox=[2, 4, 0.5, 20]), '0.5 x 20'),
    ('empty_box', edit(area=0), 'area 0'),
    ('outside_box', edit(bbox=[60, 4, 10, 10]), '60, 4, 10 x 10 in 48x36'),
    ('crossing_box', edit(bbox=[40, 4, 18, 20]), '40, 4, 18 x 20 in 48x36'),
    ('crossing_box', edit(bbox=[-2, 4, 18, 20]), '-2, 4'),
    ('unknown_category', edit(category_id=7), 'category_id=7'),
    ('crowd', edit(iscrowd=1), 'annotation 1'),
    ('ignored', edit(ignore=1), 'annotation 1'),
    ('missing_mask', edit(segmentation=None), 'annotation 1'),
    ('missing_mask', edit(segmentation=[]), 'annotation 1'),
    ('invalid_mask', edit(segmentation=[[1, 2, 3, 4]]), 'no polygon'),
    ('mask_size', edit(segmentation={'size': [9, 8], 'counts': [72]}), '8x9, image 48x36'),
    ('no_iscrowd', edit(iscrowd=None), 'annotation 1'),
    ('zero_id', edit(id=0), 'annotation 0'),
]


@pytest.mark.parametrize(('kind', 'change', 'message'), ANNOTATION_FAULTS)
def test_a_fault_of_an_annotation_is_found_in_its_image(root, kind, change, message):
    groups = found(root, change)
    assert list(groups) == [kind]
    (finding,) = groups[kind]
    assert finding.file == '0.png'
    assert message in finding.detail


def test_a_box_on_the_very_edge_is_no_fault(root):
    assert found(root, edit(bbox=[0, 0, SIZE[0] + 1e-5, SIZE[1]])) == {}


RECORD_FAULTS = [
    ('bad_record', edit(area=None), 'annotation 0 of the list: it has no area'),
    ('bad_record', edit(bbox=[1, 2, 3]), r'bbox=\[1, 2, 3\] is not four numbers'),
    ('bad_record', edit(bbox=[1, 2, float('nan'), 3]), 'is not four numbers'),
    ('bad_record', edit(category_id=[1]), r'category_id=\[1\]'),
    ('duplicate_annotation_id', edit(1, id=1), 'annotation 1'),
    ('unknown_image', edit(image_id=99), 'annotation 1: image 99'),
    ('bad_record', edit_image(2, width='48'), "image 2 of the list: width='48'"),
    ('duplicate_image_id', edit_image(1, id=0), r'id 0 is that of 0\.png too'),
    ('duplicate_file', edit_image(1, file_name='0.png'), 'listed 2 times'),
    ('small_image', edit_image(1, height=20), '48x20'),
]


@pytest.mark.parametrize(('kind', 'change', 'message'), RECORD_FAULTS)
def test_a_fault_of_the_records_is_found(root, kind, change, message):
    import re

    groups = found(root, change, min_size=32)
    assert any(re.search(message, finding.detail) for finding in groups[kind]), groups


def test_categories_listed_twice(root):
    groups = found(root, lambda data: data['categories'].append({'id': 40, 'name': 'red'}))
    assert "name 'red' 2 times" in groups['duplicate_category'][0].detail


@pytest.mark.parametrize(
    ('classes', 'kind', 'message'),
    [
        (('person', 'car'), 'wrong_classes', 'lack 2 of 2 classes (person, car)'),
        (('white', 'red', 'platelet'), 'wrong_classes', 'another order (red, white, platelet)'),
        (('red', 'white'), 'unused_category', 'category_id=30'),
    ],
)
def test_classes_that_do_not_fit(root, classes, kind, message):
    groups = found(root, classes=classes)
    assert message in groups[kind][0].detail
    assert KINDS[kind].fatal


def test_images_without_objects(root):
    def empty(data):
        data['annotations'] = [a for a in data['annotations'] if a['image_id'] != 1]
        for annotation in data['annotations'][2:]:
            annotation['bbox'] = [0, 0, 0, 0]

    groups = found(root, empty)
    assert [finding.file for finding in groups['no_objects']] == ['1.png']
    assert [finding.file for finding in groups['no_usable_objects']] == ['2.png']
    assert not check_coco(source(root)).fatal()


def test_all_images_without_objects_break_a_training_but_no_test(root):
    groups = found(root, lambda data: data['annotations'].clear())
    assert '3 images, 0 annotations' in groups['nothing_to_learn'][0].detail
    assert 'nothing_to_learn' not in found(root, training=False)


def test_what_happens_to_images_without_objects_depends_on_the_filter(root):
    found(root, lambda data: data['annotations'].__delitem__(slice(0, 2)))
    assert check_coco(source(root)).effect('no_objects') == 'are left out'
    kept = check_coco(source(root, filter_empty=False))
    assert 'are trained on' in kept.effect('no_objects')


def test_iscrowd_is_needed_only_to_evaluate(root):
    found(root, edit(iscrowd=None))
    assert not check_coco(source(root)).fatal()
    assert list(check_coco(source(root, training=False)).fatal()) == ['no_iscrowd']


def test_masks_matter_only_where_they_are_asked_for(root):
    found(root, edit(segmentation=None))
    assert not check_coco(replace(source(root), with_masks=False)).findings


def test_run_lengths_are_no_polygons(root):
    rle = {'size': [SIZE[1], SIZE[0]], 'counts': [SIZE[0] * SIZE[1]]}
    assert found(root, edit(segmentation=rle)) == {}
    assert list(found(root, polygons_only=True)) == ['invalid_mask']


# Image files --------------------------------------------------------------------------------------


def test_missing_and_empty_files_are_seen_without_reading(root):
    (root / 'images' / '0.png').unlink()
    (root / 'images' / '1.png').write_bytes(b'')
    groups = found(root)
    assert list(groups) == ['missing_image', 'empty_file']
    assert groups['missing_image'][0].file == '0.png'
    assert groups['empty_file'][0].file == '1.png'


def test_a_cut_file_is_seen_by_reading(root):
    path = root / 'images' / '2.png'
    path.write_bytes(path.read_bytes()[:-800])
    assert found(root) == {}
    groups = found(root, read_images=True)
    assert 'corrupt image' in groups['unreadable_image'][0].detail


def test_another_size_than_the_file_says(root):
    groups = found(root, edit_image(0, width=36, height=48), read_images=True)
    assert 'turned by its EXIF' in groups['other_size'][0].detail
    assert not check_coco(source(root), read_images=True).fatal()


def test_another_size_breaks_masks_in_run_lengths(root):
    found(root, edit_image(0, width=50, height=48))
    rle = {'size': [48, 50], 'counts': [48 * 50]}
    assert 'mask_size' in found(root, edit(segmentation=rle), read_images=True)


# The annotation file as such ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda text: text[:-20], 'is cut short'),
        (lambda text: text[: text.index('"file_name"') + 15], 'is cut short'),
        (lambda text: '', 'is cut short'),
        (lambda text: text.replace(':', '=', 1), 'is no JSON'),
        (lambda text: '[]', 'not COCO-style: a list'),
        (lambda text: '{"shapes": []}', "no list 'images', but shapes"),
        (lambda text: text.replace('categories', 'labels'), "no list 'categories'"),
    ],
)
def test_an_annotation_file_that_cannot_be_used(root, spoil, message):
    path = root / 'train.json'
    path.write_text(spoil(path.read_text()))
    with pytest.raises(DataError, match=rf'train\.json .*{message}'):
        check_coco(source(root))


def test_a_missing_annotation_file(tmp_path):
    with pytest.raises(DataError, match=r'gone\.json: No such file'):
        check_coco(CocoSource(tmp_path / 'gone.json'))


# Reports and the tool -----------------------------------------------------------------------------


def spoilt(root: Path):
    found(root, edit(bbox=[40, 4, 18, 20]))
    found(root, edit(2, iscrowd=1))
    (root / 'images' / '1.png').unlink()
    return check_coco(source(root))


def test_reports_group_count_and_explain(root):
    report = spoilt(root)
    table = format_report(report, 'train')
    assert '│ breaks │ stops when their turn comes' in ' '.join(table.split())
    assert '0.png: annotation 1: box 40, 4, 18 x 20' in table
    faults = to_dict({'train': report})['train']['faults']
    assert [(fault['kind'], fault['count'], fault['verdict']) for fault in faults] == [
        ('missing_image', 1, 'breaks'), ('crossing_box', 1, 'passes'), ('crowd', 1, 'passes'),
    ]  # fmt: skip
    assert '| crowd regions | 1 | no | are not learned' in to_markdown({'train': report})


def test_only_the_first_are_listed(root):
    def cross(data):
        for annotation in data['annotations']:
            annotation['bbox'][0] = -3

    found(root, cross)
    table = ' '.join(format_report(check_coco(source(root)), 'train', first=2).split())
    assert '... and 4 more' in table


@pytest.fixture
def tool():
    return load_tool('analysis_tools/check_dataset').main


def test_exit_codes_of_the_tool(tool, root, capsys, tmp_path):
    arguments = [str(root / 'train.json'), '--images', str(root / 'images'), '--masks']
    assert tool([*arguments, '--read-images']) == 0
    assert 'no faults found' in capsys.readouterr().out
    spoilt(root)
    out = tmp_path / 'out' / 'report.json'
    assert tool([*arguments, '--out', str(out)]) == 1
    assert 'missing_image' in {
        fault['kind'] for fault in json.loads(out.read_text())[arguments[0]]['faults']
    }
    assert tool([*arguments, '--out', 'report.txt']) == 2
    assert tool([str(root / 'gone.json')]) == 2
    assert tool([str(root / 'gone.py')]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 3 and all(line.startswith('error: ') for line in err)
