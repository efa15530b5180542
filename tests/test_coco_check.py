"""Each fault of a COCO-style set is found, counted and explained; a clean set has none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coco_sets import NAMES, SIZE, make_coco, write
from PIL import Image
from programs import load_tool
from pycocotools import mask as coder
from remedies import tries

from effvit_mm.errors import DataError
from effvit_mm.openmm.datasets.coco_check import CocoSource, check_coco
from effvit_mm.openmm.datasets.coco_format import read_classes, read_coco
from effvit_mm.openmm.datasets.coco_report import format_report, to_dict, to_markdown
from effvit_mm.openmm.datasets.fault_kinds import KINDS
from effvit_mm.utils.image_size import image_size
from effvit_mm.utils.images import load_image


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
    ('no_area', edit(area=0), 'area 0'),
    ('outside_box', edit(bbox=[60, 4, 10, 10]), '60, 4, 10 x 10 in 48x36'),
    ('crossing_box', edit(bbox=[40, 4, 18, 20]), '40, 4, 18 x 20 in 48x36'),
    ('crossing_box', edit(bbox=[-2, 4, 18, 20]), '-2, 4'),
    ('unknown_category', edit(category_id=7), 'category_id=7, the file lists 10, 20, 30'),
    ('crowd', edit(iscrowd=1), 'annotation 1'),
    ('ignored', edit(ignore=1), 'annotation 1'),
    ('missing_mask', edit(segmentation=None), 'annotation 1'),
    ('missing_mask', edit(segmentation=[]), 'annotation 1'),
    ('invalid_mask', edit(segmentation=[[1, 2, 3, 4]]), 'no polygon'),
    ('mask_size', edit(segmentation={'size': [9, 8], 'counts': [72]}), '8x9, image 48x36'),
]
TURNED = [{'attributes': {'occluded': False, 'rotation': 30.5}}, {'rotation': 30.5}]


@pytest.mark.parametrize(('kind', 'change', 'message'), ANNOTATION_FAULTS)
def test_a_fault_of_an_annotation_is_found_in_its_image(root, kind, change, message):
    groups = found(root, change)
    assert list(groups) == [kind]
    (finding,) = groups[kind]
    assert finding.file == '0.png'
    assert message in finding.detail


@pytest.mark.parametrize('angle', TURNED)
def test_a_box_that_is_turned_is_told_unless_its_outline_is_there(root, angle):
    assert found(root, edit(**angle)) == {}
    found(root, edit(segmentation=[]))
    report = check_coco(replace(source(root), with_masks=False))
    (finding,) = report.told()['rotated_box']
    assert 'annotation 1: rotation=30.5' in finding.detail and not report.lost()
    assert report.boxes['red'] == 2


def test_a_box_listed_twice_is_told_unless_its_masks_differ(root):
    def again(**values):
        return lambda data: data['annotations'].append(
            {**data['annotations'][0], 'id': 9, **values}
        )

    assert found(root, again(segmentation=[[1, 1, 9, 1, 9, 9]])) == {}
    (finding,) = found(root, again())['duplicate_box']
    assert (finding.file, finding.detail) == ('0.png', 'annotations 1 and 9')
    assert list(check_coco(source(root)).told()) == ['duplicate_box']


def test_annotations_without_ids_are_numbered(root):
    plain = read_coco(root / 'train.json')
    assert found(root, lambda data: [a.pop('id') for a in data['annotations'][2:]]) == {}
    assert read_coco(root / 'train.json')['annotations'] == plain['annotations']


def test_a_box_on_the_very_edge_is_no_fault(root):
    assert found(root, edit(bbox=[0, 0, SIZE[0] + 1e-5, SIZE[1]])) == {}


RECORD_FAULTS = [
    ('absent_area', edit(area=None), 'annotation 1: 360'),
    ('absent_size', edit_image(2, width=None), '48x36'),
    ('bad_record', edit(bbox=None), r'annotation 0 of the list \(id 1\): it has no bbox'),
    ('bad_record', edit(bbox=[1, 2, 3, 4, 30]), 'left, top, width and height of an upright box'),
    ('bad_record', edit(bbox=[1, 2, 3]), r'bbox=\[1, 2, 3\] is not four numbers'),
    ('bad_record', edit(bbox=[1, 2, float('nan'), 3]), 'is not four numbers'),
    ('bad_record', edit(category_id=[1]), r'category_id=\[1\]'),
    ('duplicate_annotation_id', edit(1, id=1), 'annotation 1'),
    ('unknown_image', edit(image_id=99), 'annotation 1: image 99'),
    (
        'bad_record',
        edit_image(2, width='48'),
        r"image 2 of .* \(2\.png\): width='48' is not a number",
    ),
    ('bad_record', edit(iscrowd='yes'), r"iscrowd='yes' is not 0 or 1"),
    ('bad_record', edit(ignore=2), 'ignore=2 is not 0 or 1'),
    ('bad_record', edit_image(2, id='2'), "id='2', those before it are of type int"),
    ('duplicate_image_id', edit_image(1, id=0), r'id 0 is that of 0\.png too'),
    ('duplicate_file', edit_image(1, file_name='0.png'), 'listed 2 times'),
    ('small_image', edit_image(1, height=20), '48x20'),
]


@pytest.mark.parametrize(('kind', 'change', 'message'), RECORD_FAULTS)
def test_a_fault_of_the_records_is_found(root, kind, change, message):
    groups = found(root, change, min_size=32)
    assert any(re.search(message, finding.detail) for finding in groups[kind]), groups


def test_of_a_category_listed_twice_the_one_with_boxes_is_taken(root):
    """A labelling service's root category has the name of the only class, and no box."""
    groups = found(root, lambda data: data['categories'].insert(0, {'id': 0, 'name': 'red'}))
    assert list(groups) == ['unused_copy']
    assert "'red': id 10 is taken, 0 has no box" in groups['unused_copy'][0].detail
    assert [c['id'] for c in read_coco(root / 'train.json')['categories']] == [10, 20, 30]


@pytest.mark.parametrize(
    ('category', 'message'),
    [
        ({'id': 40, 'name': 'red'}, "name 'red' 2 times, of ids 10, 40, all with boxes"),
        ({'id': 10, 'name': 'blue'}, "id 10 is that of 'red' and 'blue'"),
        ({'id': 'x', 'name': 'blue'}, 'some are numbers, some are text'),
    ],
)
def test_categories_that_cannot_be_told_apart(root, category, message):
    def change(data):
        data['categories'].append(category)
        data['annotations'][2]['category_id'] = category['id']

    groups = found(root, change)
    detail = ' '.join(finding.detail for kind in groups for finding in groups[kind])
    assert message in detail and check_coco(source(root)).fatal()
    with pytest.raises(DataError, match=re.escape(message)):
        read_coco(root / 'train.json')


@pytest.mark.parametrize(
    ('category', 'message'),
    [
        ({'id': 20}, 'has no id or no name'),
        ('white', 'has no id or no name'),
        ({'id': 20, 'name': ' '}, 'a number or a text is needed as id and as name'),
        ({'id': None, 'name': 'white'}, 'a number or a text is needed as id and as name'),
    ],
)
def test_a_category_at_fault_hides_no_other_fault(root, category, message):
    def change(data):
        data['categories'][1] = category
        data['images'][2]['file_name'] = 'gone.png'

    groups = found(root, change)
    assert message in groups['bad_record'][0].detail and 'missing_image' in groups
    assert 'category_id=20' in groups['unknown_category'][0].detail
    for read in (read_coco, read_classes):
        with pytest.raises(DataError, match=re.escape(message)):
            read(root / 'train.json')
    with pytest.raises(DataError, match=re.escape(message)):  # nothing could be judged without
        found(root, lambda data: data.update(categories=[category]))


@pytest.mark.parametrize(
    ('classes', 'kind', 'message'),
    [
        (('person', 'car'), 'wrong_classes', 'none of the 2 classes (person, car)'),
        (('red', 'white'), 'unused_category', 'category_id=30 (platelet), the classes are red, wh'),
    ],
)
def test_classes_that_do_not_fit(root, classes, kind, message):
    groups = found(root, classes=classes)
    assert message in groups[kind][0].detail
    assert KINDS[kind].fatal


def test_the_order_of_categories_is_no_fault_and_absent_ones_are_told(root):
    assert found(root, classes=('white', 'red', 'platelet')) == {}
    groups = found(root, classes=('white', 'red', 'blue', 'platelet'))
    assert [finding.detail for finding in groups['no_box']] == ['blue']
    assert not check_coco(source(root)).fatal()


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


@pytest.mark.parametrize(
    ('value', 'want'), [('0', 0), ('1', 1), (False, 0), (True, 1), (1.0, 1), ('true', 1), ('', 0)]
)
def test_what_stands_for_iscrowd(root, value, want):
    found(root, edit(iscrowd=value))
    assert read_coco(root / 'train.json')['annotations'][0]['iscrowd'] == want
    assert check_coco(source(root, training=False)).by_kind().keys() == (
        {'crowd'} if want else set()
    )


def test_iscrowd_that_is_missing_or_null_is_0(root):
    data = json.loads((root / 'train.json').read_text())
    data['annotations'][0].pop('iscrowd')
    data['annotations'][1]['iscrowd'] = None
    write(root, data)
    assert check_coco(source(root, training=False)).findings == []
    assert {a['iscrowd'] for a in read_coco(root / 'train.json')['annotations']} == {0}


@pytest.mark.parametrize(
    'mask',
    [[2, 4, 20, 4, 20, 24], [[[2, 4], [20, 4], [20, 24]]], [[2, 4], [20, 4], [20, 24]]],
    ids=['flat', 'pairs', 'one polygon of pairs'],
)  # fmt: skip
def test_polygons_however_they_are_nested(root, mask):
    assert found(root, edit(segmentation=mask)) == {}
    item = read_coco(root / 'train.json')['annotations'][0]
    assert item['segmentation'] == [[2, 4, 20, 4, 20, 24]]


def test_of_several_polygons_those_that_are_none_are_left_out(root):
    whole = [2, 4, 20, 4, 20, 24]
    groups = found(root, edit(segmentation=[[2, 4, 20, 24], whole, [1, 2]]))
    assert list(groups) == ['odd_mask'] and '2 of 3 polygons' in groups['odd_mask'][0].detail
    assert read_coco(root / 'train.json')['annotations'][0]['segmentation'] == [whole]


BAD_MASKS = [
    [[10, 20]], [[1, 2, 3, 4, 5, 6, 7]], [[1, 2, 3, 4, 5, None]], 'none', {'size': [36, 48]},
    {'size': [36, 48], 'counts': [3, 4]}, {'size': [36, 48], 'counts': [-3, 36 * 48 + 3]},
    {'size': [36, 48], 'counts': '~~~'}, {'size': [36, 48], 'counts': 'X'},
    {'size': 3, 'counts': ''},
]  # fmt: skip


@pytest.mark.parametrize('mask', BAD_MASKS, ids=str)
def test_masks_of_no_use_are_not_learned_and_break_an_evaluation(root, mask):
    """pycocotools reads beyond the end of some of them."""
    groups = found(root, edit(segmentation=mask))
    assert list(groups) == ['invalid_mask']
    report = check_coco(source(root))
    assert not report.fatal() and report.lost() and sum(report.boxes.values()) == 5
    judged = check_coco(source(root, training=False, judged=('bbox', 'segm')))
    assert list(judged.fatal()) == ['invalid_mask']
    assert not check_coco(source(root, training=False, judged=('bbox',))).fatal()


def test_run_lengths_that_pycocotools_wrote_are_sound(root):
    rng = np.random.default_rng(0)
    for share in (0.01, 0.5, 1.0):
        picture = np.asfortranarray(rng.random((SIZE[1], SIZE[0])) < share, np.uint8)
        mask = coder.encode(picture)
        assert found(root, edit(segmentation={**mask, 'counts': mask['counts'].decode()})) == {}


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


@pytest.mark.parametrize('read_images', [False, True])
def test_another_size_than_the_file_says(root, read_images):
    groups = found(root, edit_image(0, width=36, height=48), read_images=read_images)
    assert 'it has 48x36 pixels, its annotations say 36x48' in groups['other_size'][0].detail
    assert 'EXIF' in groups['other_size'][0].detail
    assert 'other_size' in check_coco(source(root), read_images).fatal()
    groups = found(root, edit_image(0, width=50, height=48), read_images=read_images)
    assert 'write the true size' in groups['other_size'][0].detail


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('ending', ['jpg', 'png', 'webp', 'tif'])
def test_the_size_in_a_file_is_that_of_the_decoded_image(tmp_path, ending, orientation):
    path = tmp_path / f'x.{ending}'
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (48, 36)).save(path, exif=exif.tobytes())
    turned = orientation >= 5
    assert image_size(path) == ((48, 36) if turned else (36, 48))
    if ending in ('jpg', 'png'):
        assert image_size(path) == load_image(path).shape[:2]


@tries('; if it is turned by its EXIF orientation, take that out of the file')
@pytest.mark.parametrize('ending', ['jpg', 'png', 'webp'])
def test_an_image_turned_by_its_exif_orientation(root, ending):
    """The check says what the loader would; what it advises helps."""
    path = root / 'images' / f'0.{ending}'
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / 'images' / '0.png') as image:
        image.save(path, exif=exif.tobytes())
    groups = found(root, edit_image(0, file_name=path.name))
    assert list(groups) == ['other_size']
    with Image.open(path) as image:
        image.load()
        bare = Image.fromarray(np.asarray(image))
    bare.save(path)
    assert check_coco(source(root)).findings == []


def test_a_set_that_skips_corrupt_images_may_have_them(root):
    (root / 'images' / '0.png').unlink()
    (root / 'images' / '1.png').write_bytes(b'no image')
    assert not check_coco(source(root, skip_corrupt=True)).findings
    assert check_coco(source(root)).fatal().keys() == {'missing_image', 'unreadable_image'}


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
        (
            lambda text: re.sub(r'"images": \[.*?\]', '"images": {}', text),
            "'images' is a dict, no list",
        ),
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
        ('missing_image', 1, 'breaks'), ('crowd', 1, 'passes'), ('crossing_box', 1, 'passes'),
    ]  # fmt: skip
    assert (
        '| crowd regions, or objects marked difficult | 1 | no | are not learned, nor'
        in to_markdown({'train': report})
    )


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


def test_the_tool_refuses_what_an_evaluation_would(tool, root, capsys):
    """A file alone may be for either; a training would only leave the object out."""
    found(root, edit(segmentation=[[10, 20]]))
    assert tool([str(root / 'train.json')]) == 0
    assert tool([str(root / 'train.json'), '--masks']) == 1
    assert 'masks of no use (give them polygons of three points' in capsys.readouterr().out


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
