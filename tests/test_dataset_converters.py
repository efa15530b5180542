"""Detection sets between COCO's, VOC's and YOLO's layouts: nothing but what is told gets lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from coco_sets import make_coco, write
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from programs import load_tool
from remedies import tries

pytest.importorskip('mmdet')
from effvit_mm.openmm.datasets.coco_format import read_coco
from effvit_mm.openmm.datasets.conversion import PLANS, read_set

SIZES = ((40, 30), (31, 47))  # width, height
NAMES = ('red cell', 'Thrombozyt, groß', '血小板', 'a & <b>', 'never seen')
FILES = ('0.png', 'köln 1.png', 'cam 2/b.c.png')
SOURCES = {
    'coco': 'annotations/train.json',
    'voc': 'ImageSets/Main/train.txt',
    'yolo': 'data.yaml#train',
}
convert = load_tool('dataset_converters/convert').main


@st.composite
def sets(draw, whole: bool, fewest: int = 0) -> dict:
    """Three images with boxes within them, of whole pixels or not; ``fewest`` of the first."""
    number = (lambda low, high: st.integers(low, high)) if whole else (
        lambda low, high: st.floats(low, high, allow_nan=False)
    )  # fmt: skip
    images, annotations = [], []
    for i, file in enumerate(FILES):
        width, height = SIZES[i % 2]
        images.append({'id': i + 7, 'file_name': file, 'width': width, 'height': height})
        for _ in range(draw(st.integers(0 if i else fewest, 3))):
            left, top = draw(number(0, width - 4)), draw(number(0, height - 4))
            box = [left, top, draw(number(1, width - left)), draw(number(1, height - top))]
            x, y, w, h = box
            mask = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append({
                'id': 3 * len(annotations) + 5, 'image_id': i + 7, 'bbox': box,
                'category_id': draw(st.integers(0, len(NAMES) - 2)) * 10,
                'iscrowd': int(draw(st.booleans())), 'area': w * h,
                **({'segmentation': mask} if draw(st.booleans()) else {}),
            })  # fmt: skip
    categories = [{'id': 10 * i, 'name': name} for i, name in enumerate(NAMES)]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def write_set(root: Path, data: dict) -> str:
    for image in data['images']:
        path = root / 'images' / image['file_name']
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imencode('.png', np.zeros((image['height'], image['width'], 3), np.uint8))[1].tofile(
            str(path)
        )
    write(root, data, 'train')
    return str(root / 'train.json')


def objects(data: dict, crowds: bool = True, masks: bool = False) -> dict:
    """``{file: its objects}``, in their order: name, crowd flag, numbers of box and outline."""
    files = {image['id']: image['file_name'] for image in data['images']}
    found: dict = {name: [] for name in files.values()}
    for item in data['annotations']:
        (outline,) = item.get('segmentation') or [[]] if masks else [[]]
        crowd = item['iscrowd'] if crowds else None
        found[files[item['image_id']]].append((item['name'], crowd, [*item['bbox'], *outline]))
    return found


def assert_same(got: dict, want: dict, tolerance: float = 1e-9) -> None:
    assert got.keys() == want.keys()
    for name, items in want.items():
        assert len(got[name]) == len(items)
        for ours, theirs in zip(got[name], items, strict=True):
            assert ours[:2] == theirs[:2]
            assert ours[2] == pytest.approx(theirs[2], abs=tolerance)


def through(root: Path, data: dict, kind: str, masks: bool = False) -> tuple[dict, dict, dict]:
    """COCO to another layout and back; both, and what was lost on the way there."""
    source = read_set(write_set(root / 'a', data), 'coco', root / 'a' / 'images')
    plan = PLANS[kind](source, root / 'b', 'train', masks)
    plan.write(overwrite=False)
    other = read_set(str(root / 'b' / SOURCES[kind]), kind, None)
    PLANS['coco'](other, root / 'c', 'train', False).write(overwrite=False)
    last = read_coco(root / 'c' / SOURCES['coco'], root / 'c' / 'images')
    return source, last, plan.lost


@seed(0)
@settings(max_examples=15, deadline=None, database=None)
@given(data=sets(whole=False))
def test_through_yolo_every_box_and_name_comes_back(data):
    with TemporaryDirectory() as folder:
        source, last, lost = through(Path(folder), data, 'yolo')
    assert_same(objects(last, crowds=False), objects(source, crowds=False))
    assert [c['name'] for c in last['categories']] == list(NAMES)
    assert lost['crowd flags'] == sum(a['iscrowd'] for a in data['annotations'])
    assert lost['masks'] == sum('segmentation' in a for a in data['annotations'])


@seed(0)
@settings(max_examples=15, deadline=None, database=None)
@given(data=sets(whole=True))
def test_outlines_come_back_through_yolo(data):
    with TemporaryDirectory() as folder:
        source, last, lost = through(Path(folder), data, 'yolo', masks=True)
    assert_same(objects(last, crowds=False, masks=True), objects(source, crowds=False, masks=True))
    assert not lost['masks'] and not lost['masks of several parts, or of run lengths']


@seed(0)
@settings(max_examples=15, deadline=None, database=None)
@given(data=sets(whole=True, fewest=1))
def test_through_voc_whole_boxes_and_crowds_come_back(data):
    with TemporaryDirectory() as folder:
        source, last, lost = through(Path(folder), data, 'voc')
    assert_same(objects(last), objects(source))
    assert not lost['boxes rounded to whole pixels']
    assert lost['masks'] == sum('segmentation' in a for a in data['annotations'])
    used = {a['category_id'] for a in data['annotations']}
    assert lost['names of classes without a box'] == len(NAMES) - len(used)


@seed(0)
@settings(max_examples=10, deadline=None, database=None)
@given(data=sets(whole=False, fewest=1))
def test_voc_rounds_boxes_by_half_a_pixel_and_drops_none(data):
    with TemporaryDirectory() as folder:
        source, last, lost = through(Path(folder), data, 'voc')
    assert_same(objects(last), objects(source), tolerance=1.001)
    broken = [a for a in source['annotations'] if any(v != round(v) for v in a['bbox'])]
    assert lost['boxes rounded to whole pixels'] == len(broken)


def test_a_voc_set_without_objects_has_no_classes_to_hand_on(tmp_path, capsys):
    write(tmp_path / 'a', {**make_coco(tmp_path / 'a', images=1), 'annotations': []})
    arguments = [str(tmp_path / 'a/train.json'), str(tmp_path / 'voc'), '--to', 'voc']
    assert convert([*arguments, '--images', str(tmp_path / 'a/images')]) == 0
    assert 'not held by voc: 3 names of classes without a box' in capsys.readouterr().out
    for kind in ('coco', 'yolo'):
        source = str(tmp_path / 'voc' / SOURCES['voc'])
        assert convert([source, str(tmp_path / kind), '--to', kind]) == 2
        assert 'train.txt: it has no object, and in VOC nothing else' in capsys.readouterr().err
        assert not (tmp_path / kind).exists()


def test_masks_that_yolo_cannot_hold_keep_their_boxes(tmp_path):
    data = make_coco(tmp_path / 'a', images=1, splits=())
    parts = data['annotations'][0]['segmentation']
    data['annotations'][0]['segmentation'] = [*parts, [1, 1, 5, 1, 5, 5]]
    data['annotations'][1]['segmentation'] = {'size': [36, 48], 'counts': [100, 20, 1608]}
    write(tmp_path / 'a', data)
    arguments = [str(tmp_path / 'a/train.json'), str(tmp_path / 'b'), '--to', 'yolo', '--masks']
    assert convert([*arguments, '--images', str(tmp_path / 'a/images')]) == 0
    got = read_coco(tmp_path / 'b/data.yaml#train')
    assert [a['bbox'] for a in got['annotations']] == [
        pytest.approx(a['bbox']) for a in data['annotations']
    ]


@tries('give --overwrite or another target')
def test_the_program_tells_what_is_lost_and_overwrites_nothing_unasked(tmp_path, capsys):
    data = make_coco(tmp_path / 'a', images=2, splits=())
    data['annotations'][0]['iscrowd'] = 1
    write(tmp_path / 'a', data)
    arguments = [str(tmp_path / 'a/train.json'), str(tmp_path / 'b'), '--to', 'yolo']
    arguments += ['--images', str(tmp_path / 'a/images')]
    assert convert(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f'2 images, 4 objects, 3 classes: {tmp_path / "b/data.yaml"}'
    assert lines[1] == 'not held by yolo: 4 masks, 1 crowd flags'
    label = tmp_path / 'b/labels/train/0.txt'
    before = label.read_text()
    label.write_text('changed')
    assert convert(arguments) == 2
    assert 'would be overwritten: give --overwrite' in capsys.readouterr().err
    assert label.read_text() == 'changed'
    assert convert([arguments[0], str(tmp_path / 'c'), *arguments[2:]]) == 0
    assert (tmp_path / 'c/labels/train/0.txt').read_text() == before
    assert label.read_text() == 'changed'
    assert convert([*arguments, '--overwrite']) == 0
    assert label.read_text() == before
    assert not list((tmp_path / 'b').rglob('.*'))
    # Another split joins those that are there.
    assert convert([*arguments, '--split', 'val', '--link']) == 0
    assert (tmp_path / 'b/images/val/0.png').is_symlink()
    for split in ('train', 'val'):
        assert len(read_coco(tmp_path / f'b/data.yaml#{split}')['annotations']) == 4


@tries('has other names of classes; give another target')
def test_a_split_of_other_classes_does_not_join(tmp_path, capsys):
    data = make_coco(tmp_path / 'a', images=1)
    images = ['--images', str(tmp_path / 'a/images'), '--to', 'yolo']
    assert convert([str(tmp_path / 'a/train.json'), str(tmp_path / 'b'), *images]) == 0
    data['categories'][0]['name'] = 'other'
    val = str(write(tmp_path / 'a', data, 'val'))
    assert convert([val, str(tmp_path / 'b'), *images]) == 2
    assert 'b/data.yaml has other names of classes; give another' in capsys.readouterr().err
    assert convert([val, str(tmp_path / 'c'), *images]) == 0
    assert read_coco(tmp_path / 'c/data.yaml#val')['categories'][0]['name'] == 'other'


@pytest.mark.parametrize('first', SOURCES)
@pytest.mark.parametrize('second', SOURCES)
def test_each_way(tmp_path, first, second):
    """Every layout into every other one by the program's names for them."""
    make_coco(tmp_path / 'coco', images=2)
    (tmp_path / 'coco' / 'annotations').mkdir()
    shutil.move(tmp_path / 'coco' / 'train.json', tmp_path / 'coco' / SOURCES['coco'])
    images = ['--images', str(tmp_path / 'coco/images')]
    source = str(tmp_path / 'coco' / SOURCES['coco'])
    if first != 'coco':
        assert convert([source, str(tmp_path / first), '--to', first, *images]) == 0
        source, images = str(tmp_path / first / SOURCES[first]), []
    code = convert([source, str(tmp_path / 'out'), '--to', second, '--from', first, *images])
    assert code == (2 if first == second else 0)
    if first != second:
        want = read_set(source, first, images[1] if images else None)
        got = read_set(
            str(tmp_path / 'out' / SOURCES[second]), second,
            tmp_path / 'out/images' if second == 'coco' else None,
        )  # fmt: skip
        assert_same(objects(got), objects(want))


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['a/train.csv', 'b', '--to', 'yolo'], "a/train.csv: a COCO-style .json, VOC's list"),
        (['a/train.json', 'b', '--to', 'coco'], '--to coco: a/train.json is in that format'),
        (['a/train.json', 'b', '--to', 'voc', '--masks'], '--masks goes with --to yolo'),
        (['a/train.json', 'b', '--to', 'yolo', '--split', 'x'], '--split x: YOLO has train, val'),
        (['a/train.json', 'b', '--to', 'yolo'], '--images says where names begin'),
    ],
)
def test_what_cannot_be_is_said_in_a_line(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    make_coco(Path('a'))
    assert convert(arguments) == 2
    assert text in capsys.readouterr().err
    assert not Path('b').exists()


def test_images_that_would_become_one_are_an_error(tmp_path, capsys):
    data = make_coco(tmp_path / 'a', images=2, splits=())
    (tmp_path / 'a/images/1.png').rename(tmp_path / 'a/images/0.bmp')
    data['images'][1]['file_name'] = '0.bmp'
    write(tmp_path / 'a', data)
    for kind in ('yolo', 'voc'):
        arguments = [str(tmp_path / 'a/train.json'), str(tmp_path / kind), '--to', kind]
        assert convert([*arguments, '--images', str(tmp_path / 'a/images')]) == 2
        assert 'another image would both be of' in capsys.readouterr().err


def test_names_that_look_like_columns_or_endings_survive_voc(tmp_path):
    for files in (('a 1.png', 'b -1.png'), ('x.jpg.png', 'y.png')):
        root = tmp_path / files[1]
        data = make_coco(root / 'a', images=2, splits=())
        for image, name in zip(data['images'], files, strict=True):
            (root / 'a/images' / image['file_name']).rename(root / 'a/images' / name)
            image['file_name'] = name
        write(root / 'a', data)
        source = read_set(str(root / 'a/train.json'), 'coco', root / 'a/images')
        PLANS['voc'](source, root / 'b', 'train', False).write(overwrite=False)
        got = read_set(str(root / 'b' / SOURCES['voc']), 'voc', None)
        assert_same(objects(got), objects(source))
