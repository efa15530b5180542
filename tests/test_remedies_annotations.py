"""What the check of annotations advises, done: the fault is gone, and a training takes the set."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_sets import make_coco, square, write, write_config
from mmengine.registry import DATASETS, DefaultScope
from programs import load_tool
from remedies import said, tries
from trainer import forget_runs

pytest.importorskip('mmdet')
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.datasets.coco_check import CocoSource, check_coco
from effvit_mm.openmm.datasets.coco_format import read_coco
from effvit_mm.utils.images import load_image, to_bgr

PART = 'train_dataloader.dataset'
PLAIN = (f'{PART}.type=CocoDataset', f'{PART}.metainfo.classes=["red","white","cell"]')
TWO = (f'{PART}.metainfo.classes=["red","white"]', 'model.bbox_head.num_classes=2')
ALL = (f'{PART}.metainfo.classes=["red","white","platelet"]', 'model.bbox_head.num_classes=3')
MASKS = (f'{PART}.pipeline.1.with_mask=True',)
Change = Callable[[dict], object]
Options = tuple[str, ...]


def of(key: str, index: int, **values) -> Change:
    """Change a record of a list."""
    return lambda data: data[key][index].update(values)


def all_of(**values) -> Change:
    return lambda data: [annotation.update(values) for annotation in data['annotations']]


def drop(key: str, index: int) -> Change:
    return lambda data: data[key].pop(index)


def drop_image(index: int) -> Change:
    def change(data: dict) -> None:
        number = data['images'].pop(index)['id']
        data['annotations'] = [a for a in data['annotations'] if a['image_id'] != number]

    return change


def corners(data: dict) -> None:
    for annotation in data['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]


def sides(data: dict) -> None:
    for annotation in data['annotations']:
        x, y, right, bottom = annotation['bbox']
        annotation['bbox'] = [x, y, right - x, bottom - y]


def thin(data: dict) -> None:
    """A picture of another size."""
    data['images'].append({'id': 9, 'file_name': 'small.png', 'width': 8, 'height': 8})
    data['annotations'].append(
        {**data['annotations'][0], 'id': 99, 'image_id': 9, 'bbox': [1, 1, 5, 5], 'area': 25,
         'segmentation': square(1, 1, 5, 5)}
    )  # fmt: skip
    cv2.imwrite('data/images/small.png', np.zeros((8, 8, 3), np.uint8))


def misplace(name: str) -> Change:
    return lambda data: Path('data/images', name).rename(f'{name}.away')


def bring_back(name: str) -> Change:
    return lambda data: Path(f'{name}.away').rename(Path('data/images', name))


def enlarge(data: dict) -> None:
    path = Path('data/images/0.png')
    path.rename('0.png.away')
    cv2.imwrite(str(path), np.zeros((70, 90, 3), np.uint8))


def nothing(data: dict) -> None:
    """The annotations stay as they are."""


# Words -> what spoils the set, options of the config; and each remedy, a change with its options.
FAULTS: dict[str, tuple[Change, Options, list[tuple[Change, Options]]]] = {
    'mend them, or take them out': (
        of('annotations', 0, bbox='wide'), (),
        [(of('annotations', 0, bbox=[2, 4, 18, 20]), ()), (drop('annotations', 0), ())],
    ),
    'give each image an id of its own': (
        of('images', 1, id=0), (), [(of('images', 1, id=7), ())],
    ),
    'give each category one id and a name of its own': (
        of('categories', 1, name='red'), (), [(of('categories', 1, name='white'), ())],
    ),
    "give metainfo.classes as the file lists them, or take type='effvit_mm.CocoFolder'": (
        nothing, (f'{PART}.type=CocoDataset',),
        [(nothing, (f'{PART}.type=CocoDataset', ALL[0])),
         (nothing, (f'{PART}.type=effvit_mm.CocoFolder',))],
    ),
    'to leave such boxes out, set data_checks.allow_unknown_categories=True': (
        of('annotations', 3, category_id=77), (),
        [(nothing, ('data_checks.allow_unknown_categories=True',))],
    ),
    'give all in metainfo.classes; {}': (nothing, TWO, [(nothing, ALL)]),
    'bring the files back, or take them out of the annotations': (
        misplace('1.png'), (), [(bring_back('1.png'), ()), (drop_image(1), ())],
    ),
    'give the pictures that were annotated': (
        enlarge, (), [(lambda data: Path('0.png.away').rename('data/images/0.png'), ())],
    ),
    'train a detector without masks, or add them': (
        lambda data: data['annotations'][2].pop('segmentation'), MASKS,
        [(nothing, ()), (of('annotations', 2, segmentation=square(2, 4, 18, 20)), MASKS)],
    ),
    'give an ann_file with objects to learn': (
        lambda data: data['annotations'].clear(), (),
        [(lambda data: shutil.copy('whole.json', 'data/whole.json'),
          (f'{PART}.ann_file=whole.json',))],
    ),
    'set iscrowd (in VOC difficult) of single objects to 0': (
        of('annotations', 0, iscrowd=1), (), [(of('annotations', 0, iscrowd=0), ())],
    ),
    'set ignore to 0': (of('annotations', 0, ignore=1), (), [(of('annotations', 0, ignore=0), ())]),
    'give the area in pixels, of mask or box': (
        of('annotations', 0, area=0), (), [(of('annotations', 0, area=360), ())],
    ),
    'leave one of them out': (
        lambda data: data['annotations'].append({**data['annotations'][0], 'id': 77}), (),
        [(drop('annotations', 0), ()), (drop('annotations', -1), ())],
    ),
    'give polygons, or boxes around the turned objects, and take the rotation out': (
        of('annotations', 0, attributes={'rotation': 30.0}, segmentation=[]), (),
        [(of('annotations', 0, attributes={}, bbox=[1, 2, 20, 24]), ()),
         (of('annotations', 0, segmentation=square(2, 4, 18, 20)), ())],
    ),
    'write them so': (corners, (), [(sides, ())]),
    'give them polygons of three points or more, or run lengths': (
        of('annotations', 0, segmentation=[[10, 20]]), MASKS,
        [(of('annotations', 0, segmentation=square(2, 4, 18, 20)), MASKS),
         (of('annotations', 0, segmentation={'size': [36, 48], 'counts': [36 * 48 - 9, 9]}),
          MASKS)],
    ),
    'list the images': (
        drop('images', 2), (),
        [(lambda data: data['images'].append(
            {'id': 2, 'file_name': '2.png', 'width': 48, 'height': 36}), ())],
    ),
    'lower filter_cfg.min_size': (
        thin, (f'{PART}.filter_cfg.min_size=20',), [(nothing, (f'{PART}.filter_cfg.min_size=4',))],
    ),
}  # fmt: skip


@pytest.fixture
def data(tmp_path, monkeypatch) -> dict:
    monkeypatch.chdir(tmp_path)
    made = make_coco(Path('data'))
    write_config(Path('small.py'), Path('data'))
    write(Path(), made, 'whole')
    return made


@tries(*FAULTS)
@pytest.mark.parametrize('words', FAULTS)
def test_a_fault_of_annotations(data, capsys, words):
    spoil, options, remedies = FAULTS[words]
    check = load_tool('analysis_tools/check_dataset').main

    def checked(options: Options) -> tuple[int, str]:
        extra = ('--cfg-options', *options) if options else ()
        code = check(['small.py', '--splits', 'train', *extra])
        return code, capsys.readouterr().out

    spoil(data)
    write(Path('data'), data)
    code, text = checked(options)
    assert said(words, text), text
    fatal = code == 1
    for change, instead in remedies:
        mended = copy.deepcopy(data)
        change(mended)
        write(Path('data'), mended)
        code, text = checked(instead)
        assert code == 0 and not said(words, text), text
        if fatal:
            forget_runs()
            arguments = ('--cfg-options', *instead) if instead else ()
            assert cli.train(['small.py', '--work-dir', 'w', *arguments]) == 0
            capsys.readouterr()


@tries('; write the true size, or take the image that was annotated')
def test_an_image_of_another_size_than_was_said(data):
    path = 'data/images/0.png'
    annotated = cv2.imread(path)
    cv2.imwrite(path, annotated[:34, :46])
    source = CocoSource(Path('data/train.json'), Path('data/images'))
    (finding,) = check_coco(source).fatal()['other_size']
    assert finding.detail.endswith('; write the true size, or take the image that was annotated')
    data['images'][0].update(width=46, height=34)
    write(Path('data'), data)
    assert not check_coco(source).fatal()
    cv2.imwrite(path, annotated)
    data['images'][0].update(width=48, height=36)
    write(Path('data'), data)
    assert not check_coco(source).fatal()


VOC = """
_base_ = './small.py'
train_dataloader = dict(dataset=dict(
    _delete_=True, type='VOCDataset', data_root='voc', ann_file='list.txt',
    data_prefix=dict(sub_data_root=''), pipeline=_base_.pipeline,
    metainfo=dict(classes=('red', 'white', 'platelet')), filter_cfg=dict(bbox_min_size={}),
))
"""
OBJECT = (
    '<annotation><size><width>48</width><height>36</height></size><object><name>red</name><bndbox>'
    '<xmin>3</xmin><ymin>5</ymin><xmax>20</xmax><ymax>24</ymax></bndbox></object></annotation>'
)


@pytest.fixture
def voc(data) -> Path:
    """An image with an object of 17 x 19 pixels."""
    (Path('voc') / 'Annotations').mkdir(parents=True)
    Path('voc/Annotations/0.xml').write_text(OBJECT)
    Path('voc/list.txt').write_text('0\n')
    shutil.copytree('data/images', 'voc/JPEGImages')
    return Path('voc')


@tries('lower filter_cfg.bbox_min_size')
def test_boxes_that_are_too_small_to_be_learned(voc, capsys):
    check = load_tool('analysis_tools/check_dataset').main
    for least, told in ((18, True), (17, False)):
        Path('voc.py').write_text(VOC.format(least))
        code = check(['voc.py', '--splits', 'train'])
        text = capsys.readouterr().out
        assert said('lower filter_cfg.bbox_min_size', text) == told
    assert code == 0 and 'red 1' in text


FORMS: dict[str, tuple[tuple[str, str], str]] = {
    'it has {} <bndbox>; write an <object> for each of them': (
        ('</bndbox>', '</bndbox><bndbox><xmin>1</xmin></bndbox>'), OBJECT.replace(
            '</object>', '</object><object><name>red</name><bndbox><xmin>1</xmin><ymin>1</ymin>'
            '<xmax>9</xmax><ymax>9</ymax></bndbox></object>'),
    ),
    '; export the set as Pascal VOC, an XML file an image': (
        ('annotation>', 'annotations>'), OBJECT,
    ),
    '; write the <bndbox> around it, from its centre cx, cy by (w |cos angle| + h |sin angle|) / 2 '
    'to the sides and by (w |sin angle| + h |cos angle|) / 2 up and down': (
        (OBJECT[OBJECT.index('<bndbox>') : OBJECT.index('</object>')],
         '<robndbox><cx>12</cx><cy>14</cy><w>10</w><h>4</h><angle>0.5</angle></robndbox>'),
        OBJECT,
    ),
}  # fmt: skip


@tries(*FORMS)
@pytest.mark.parametrize('words', FORMS)
def test_a_form_of_xml_that_is_not_voc_s(voc, words):
    change, mended = FORMS[words]
    file = Path('voc/Annotations/0.xml')
    file.write_text(OBJECT.replace(*change))
    with pytest.raises(DataError) as error:
        build_voc(metainfo={'classes': ('red',)})
    assert said(words, str(error.value)), str(error.value)
    file.write_text(mended)
    assert build_voc(metainfo={'classes': ('red',)}) == 1


def build_voc(kind: str = 'VOCDataset', **options) -> int:
    """The number of images in a set of this class."""
    node = {'type': f'effvit_mm.{kind}', 'data_root': 'voc', 'ann_file': 'list.txt', **options}
    with DefaultScope.overwrite_default_scope('mmdet'):
        return len(DATASETS.build({**node, 'data_prefix': {'sub_data_root': ''}}))


@tries('; leave it out with test_mode=True')
def test_the_least_size_of_a_box_is_for_training(voc):
    with pytest.raises(ConfigError, match='; leave it out with test_mode=True'):
        build_voc(test_mode=True, filter_cfg={'bbox_min_size': 4})
    assert build_voc(test_mode=True) == 1


@tries('metainfo=dict(classes=...) is needed')
def test_a_set_of_voc_s_says_its_classes(voc):
    with pytest.raises(ConfigError, match=r'metainfo=dict\(classes=\.\.\.\) is needed'):
        build_voc('XMLDataset')
    assert build_voc('XMLDataset', metainfo={'classes': ('red',)}) == 1


@tries('; if it is text, save it in UTF-8')
def test_annotations_in_another_encoding(tmp_path):
    data = make_coco(tmp_path)
    data['categories'][0]['name'] = 'Äpfel'
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(data, ensure_ascii=False), encoding='cp1252')
    with pytest.raises(DataError, match='; if it is text, save it in UTF-8'):
        read_coco(path)
    path.write_text(path.read_text('cp1252'), encoding='utf-8')
    assert read_coco(path)['categories'][0]['name'] == 'Äpfel'


# Pictures -----------------------------------------------------------------------------------------


@tries('; convert it to 8 or 16 bits, or to floats from 0 to 1')
def test_a_picture_of_which_black_and_white_are_not_known(tmp_path):
    values = np.linspace(-3, 900, 48, dtype=np.float32).reshape(6, 8)
    path = str(tmp_path / 'a.tif')
    cv2.imwrite(path, values)
    with pytest.raises(DataError, match='convert it to 8 or 16 bits, or to floats from 0 to 1'):
        load_image(path)
    unit = (values - values.min()) / np.ptp(values)
    for converted in (unit, (unit * 255).astype(np.uint8), (unit * 65535).astype(np.uint16)):
        cv2.imwrite(path, converted)
        image = load_image(path)
        assert (image.min(), image.max()) == (0, 255)


@tries('; give several images as a list')
def test_a_stack_of_pictures():
    stack = np.zeros((2, 6, 8, 3), np.uint8)
    with pytest.raises(DataError, match='; give several images as a list'):
        to_bgr(stack)
    assert [to_bgr(image).shape for image in list(stack)] == [(6, 8, 3)] * 2
