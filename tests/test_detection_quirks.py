"""What labelling tools write into annotations: trained on and evaluated, or refused in a line."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from coco_sets import NAMES, make_coco, make_config
from mmengine.registry import DATASETS, DefaultScope
from programs import load_tool
from remedies import tries
from trainer import forget_runs

pytest.importorskip('mmdet')
from effvit_mm.errors import DataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.data_checks.detection import detection_sources, judged_sets
from effvit_mm.openmm.datasets.coco_check import check_coco
from effvit_mm.openmm.datasets.fault_kinds import KINDS
from effvit_mm.openmm.datasets.voc_format import VocSource


class Trainer:
    """A small detector with validation in the current folder; gives exit code and messages."""

    def __init__(self, folder: Path, capfd) -> None:
        self.folder, self.capfd = folder, capfd
        make_config(folder)

    def edit(self, split: str, change: Callable[[dict], object]) -> None:
        path = self.folder / 'data' / f'{split}.json'
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    def __call__(self, *options: str) -> tuple[int, str]:
        forget_runs()
        shutil.rmtree('w', ignore_errors=True)
        extra = ('--cfg-options', *options) if options else ()
        code = cli.train(['detector.py', '--work-dir', 'w', *extra])
        captured = self.capfd.readouterr()
        return code, ' '.join((captured.out + captured.err).split())


@pytest.fixture
def train(tmp_path, capfd, monkeypatch) -> Trainer:
    monkeypatch.chdir(tmp_path)
    return Trainer(tmp_path, capfd)


def number_names(data):
    for number, category in enumerate(data['categories']):
        category['name'] = number


def drop_class(number: int):
    def change(data):
        data['categories'] = [c for c in data['categories'] if c['id'] != number]
        data['annotations'] = [a for a in data['annotations'] if a['category_id'] != number]

    return change


FINE = {
    'iscrowd null': lambda d: [a.update(iscrowd=None) for a in d['annotations']],
    'iscrowd text': lambda d: [a.update(iscrowd='0') for a in d['annotations']],
    'numbers as names': number_names,
    'a root category': lambda d: d['categories'].insert(0, {'id': 0, 'name': 'red'}),
}


@pytest.mark.parametrize('quirk', FINE)
def test_quirks_that_lose_nothing(train, quirk):
    for split in ('train', 'val'):
        train.edit(split, FINE[quirk])
    code, said = train()
    assert code == 0, said
    assert 'check_dataset.py` lists all' not in said


@pytest.mark.parametrize(
    'change',
    [lambda d: d['categories'].reverse(), drop_class(30), drop_class(10)],
    ids=['reversed', 'without the last class', 'without the first class'],
)
def test_categories_of_validation_are_matched_by_name(train, change):
    train.edit('val', change)
    cfg = load_config('detector.py', [])
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert dataset.metainfo['classes'] == NAMES
    own = json.loads(Path('data/val.json').read_text())
    names = {c['id']: c['name'] for c in own['categories']}
    want = [NAMES.index(names[a['category_id']]) for a in own['annotations']]
    assert [label for index in range(len(dataset)) for label in dataset.get_cat_ids(index)] == want
    code, said = train()
    assert code == 0, said
    lost = 'without a box' in said
    assert lost == (len(names) < len(NAMES))


def test_the_test_set_has_the_order_of_the_training_where_no_metric_would_tell(train):
    """A perfect detector got a third of the figure: its labels were those of another file."""
    train.edit('val', lambda d: d['categories'].reverse())
    cfg = load_config('detector.py', ['test_dataloader.dataset.ann_file=val.json'])
    assert cfg.test_dataloader.dataset.classes_from == str(Path('data/train.json').absolute())
    given = load_config('detector.py', ["test_dataloader.dataset.metainfo.classes=['white','red']"])
    assert 'classes_from' not in given.test_dataloader.dataset


def test_crowds_are_counted_and_nothing_but_crowds_is_refused(train):
    """Painted masks, which an export marks as crowds."""
    train.edit('train', lambda d: [a.update(iscrowd=1) for a in d['annotations'][::2]])
    code, said = train()
    assert code == 0, said
    assert re.search(
        r'warning: train_dataloader\.dataset \(.*train\.json\): 5 crowd regions, or objects marked '
        r'difficult \(0\.png, annotation 1\) are not learned, nor spared as background',
        said,
    ), said
    train.edit('train', lambda d: [a.update(iscrowd=1) for a in d['annotations']])
    code, said = train()
    assert code == 2
    assert re.search(
        r'no image has an object in .*: 5 images, 10 annotations; .*10 crowd.*; set iscrowd .* to '
        r'0; or give an ann_file with objects to learn$',
        said,
    ), said
    train.edit('train', lambda d: [a.update(iscrowd=0) for a in d['annotations'][:1]])
    assert train()[0] == 0


def test_what_stops_a_run_has_a_remedy():
    assert [kind for kind, fault in KINDS.items() if fault.fatal and not fault.remedy] == []


def test_boxes_that_training_leaves_out_and_evaluation_counts_are_told_for_both(train):
    for split in ('train', 'val'):
        train.edit(split, lambda d: d['annotations'][0].update(ignore=1))
        train.edit(split, lambda d: d['annotations'][1].update(bbox=[1, 2, 0.5, 5]))
    code, said = train()
    assert code == 0, said
    own, other = said.split('val_dataloader.dataset')[:2]
    assert re.search(
        r'1 annotations marked ignore \(0\.png, annotation 1: ignore=1\) are left out; 1 boxes', own
    )
    assert re.search(
        r'1 annotations marked ignore \(0\.png, annotation 1: ignore=1\) are objects to find', other
    )


def test_a_mark_instead_of_text_is_no_class(train):
    """Written by an editor: the first class had a name of its own, and vanished."""
    for split in ('train', 'val'):
        path = Path(f'data/{split}.json')
        text = path.read_text().replace('"red"', '"\u00c4pfel"')
        path.write_text(text, encoding='utf-8-sig')
    cfg = load_config('detector.py', [])
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert dataset.metainfo['classes'] == ('Äpfel', *NAMES[1:])
    assert train()[0] == 0
    path.write_bytes(text.encode('cp1252'))
    code, said = train()
    assert code == 2 and re.search(r'val\.json: not text in UTF-8 \(byte 0xc4 at \d+\)', said)
    path.write_text(path.read_text('cp1252'), encoding='utf-8')  # what the message advises
    assert train()[0] == 0


@tries(
    'to predict alone, set {evaluator}.format_only=True and {evaluator}.outfile_prefix=PLACE',
)
@pytest.mark.parametrize(
    'change', [lambda d: d.pop('annotations'), lambda d: d['annotations'].clear()]
)
def test_a_set_to_predict_on_has_no_annotations(train, change):
    train.edit('val', change)
    code, said = train()
    assert code == 2
    assert re.search(
        r'error: val_dataloader\.dataset: no image has an object to find in .*val\.json.*set '
        r'val_evaluator\.format_only=True and val_evaluator\.outfile_prefix=PLACE',
        said,
    ), said
    tool = load_tool('analysis_tools/check_dataset').main
    assert tool(['detector.py']) == 1
    said = ' '.join(train.capfd.readouterr().out.split())
    assert 'no image has an object to find (to predict alone, set val_evaluator.format' in said
    code, said = train('val_evaluator.format_only=True', 'val_evaluator.outfile_prefix=found')
    assert code == 0, said
    assert isinstance(json.loads(Path('found.bbox.json').read_text()), list)


@tries(
    'set test_mode=True without indices, or give set and evaluator a file of those images',
)
@pytest.mark.parametrize(
    ('option', 'said'),
    [
        ('indices=2', 'indices=2'),
        ('test_mode=False', 'filter_cfg leaves 1 of 5 images out'),
    ],
)
def test_a_part_of_a_set_is_not_judged_by_all_of_it(train, option, said):
    """What was left out counted as objects that were not found."""
    key = 'val_dataloader.dataset'
    options = [f'{key}.{option}', f'{key}.filter_cfg.filter_empty_gt=True']
    assert train(*options)[0] == (2 if 'indices' in option else 0)  # each image has its objects
    train.edit('val', lambda d: d.update(annotations=d['annotations'][2:]))
    code, text = train(*options)
    assert code == 2
    assert re.search(rf'val\.json: {said}; set test_mode=True without indices, or give', text), text
    check = load_tool('analysis_tools/check_dataset').main
    assert check(['detector.py', '--cfg-options', *options]) == 1
    assert said in train.capfd.readouterr().out
    assert train(f'{key}.filter_cfg.filter_empty_gt=True')[0] == 0
    cfg = load_config('detector.py', options)
    with DefaultScope.overwrite_default_scope('mmdet'):  # what was loaded is judged by itself
        (source,) = judged_sets(cfg.val_dataloader, key[:14], {'type': 'CocoMetric'}).values()
    assert 'partly_tested' not in check_coco(source).by_kind()
    few = json.loads(Path('data/val.json').read_text())
    few['images'] = few['images'][1:]
    Path('data/few.json').write_text(json.dumps(few))
    mended = [f'{key}.ann_file=few.json', 'val_evaluator.ann_file=data/few.json']
    assert train(*mended)[0] == 0


def test_masks_that_pycocotools_would_stop_at_are_refused_where_they_are_judged(train):
    train.edit('val', lambda d: d['annotations'][0].update(segmentation=[[10, 20]]))
    assert train()[0] == 0
    code, said = train("val_evaluator.metric=['bbox','segm']")
    assert code == 2
    assert re.search(r'masks of no use in .*val\.json: 0\.png, annotation 1: no polygon of 3', said)


def test_a_class_of_the_users_that_mmdet_reads_has_labels_in_the_order_of_its_file(train):
    """Ours does not stand for it, so names cannot decide: another order is refused."""
    from mmdet.datasets import CocoDataset

    class Cells(CocoDataset):
        METAINFO = {'classes': NAMES}

    node = load_config('detector.py', []).train_dataloader.dataset
    node = {'type': Cells, **{k: v for k, v in node.items() if k in ('data_root', 'ann_file')}}
    own = dict(detection_sources({**node, 'data_prefix': {'img': 'images'}}, 'train_dataloader'))
    (source,) = own.values()
    assert check_coco(source).findings == []
    train.edit('train', lambda d: d['categories'].reverse())
    assert list(check_coco(source).fatal()) == ['wrong_classes']


# VOC ----------------------------------------------------------------------------------------------


@pytest.fixture
def voc(tmp_path) -> Callable[..., list[dict]]:
    """Write a set of three images; gives what is loaded of it."""
    make_coco(tmp_path / 'plain')
    root = tmp_path / 'voc'
    (root / 'Annotations').mkdir(parents=True)
    (tmp_path / 'plain' / 'images').rename(root / 'JPEGImages')
    box = '<xmin>3</xmin><ymin>5</ymin><xmax>20</xmax><ymax>24</ymax>'
    for number in range(3):
        (root / 'Annotations' / f'{number}.xml').write_text(
            '<annotation><size><width>48</width><height>36</height></size><object><name>red</name>'
            f'<bndbox>{box}</bndbox></object></annotation>'
        )
    (root / 'list.txt').write_text('0\n1\n2\n')

    def load(**options) -> list[dict]:
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = DATASETS.build({
                'type': 'effvit_mm.VOCDataset', 'data_root': str(root), 'ann_file': 'list.txt',
                'data_prefix': {'sub_data_root': ''}, 'metainfo': {'classes': ('red',)},
                'pipeline': [{'type': 'effvit_mm.LoadImage'}], **options,
            })  # fmt: skip
        return [dataset[index] for index in range(len(dataset))]

    load.root = root
    return load


@pytest.mark.parametrize(
    ('old', 'new'),
    [('>48<', '>0<'), ('<size>', '<other>'), ('<width>48</width>', ''), ('>36<', '> <')],
)
def test_a_size_that_is_not_said_is_that_of_the_image(voc, old, new):
    path = voc.root / 'Annotations' / '1.xml'
    text = path.read_text().replace(old, new)
    path.write_text(text.replace('</size>', '</other>') if new == '<other>' else text)
    loaded = voc(filter_cfg={'filter_empty_gt': True, 'min_size': 32})
    assert [(item['width'], item['height']) for item in loaded] == [(48, 36)] * 3
    assert loaded[1]['instances'] == [{'bbox': [2, 4, 19, 23], 'bbox_label': 0, 'ignore_flag': 0}]
    report = check_coco(VocSource(voc.root / 'list.txt', voc.root, ('red',)))
    assert [(f.file, f.detail) for f in report.told()['absent_size']] == [
        ('JPEGImages/1.png', '48x36')
    ]


@pytest.mark.parametrize('ending', ['jpg', 'PNG', 'webp', 'JPG'])
def test_images_of_any_format(voc, ending):
    image = voc.root / 'JPEGImages' / '1.png'
    image.rename(image.with_suffix(f'.{ending}'))
    assert voc()[1]['img_path'] == str(image.with_suffix(f'.{ending}'))


@pytest.mark.parametrize(
    'text', ['0\n\n1\n2\n\n', '0.png\n1.JPG\n2.xml', '\ufeff0\r\n1\r\n2\r\n', '0  1\n1 -1\n2  0\n']
)
def test_list_files(voc, text):
    (voc.root / 'list.txt').write_text(text, encoding='utf-8')
    assert [item['img_id'] for item in voc()] == ['0', '1', '2']


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda text: text.replace('<name>red</name>', ''), 'object 1: it has no <name>'),
        (lambda text: text.replace('bndbox', 'box'), 'object 1: <bndbox><xmin> is missing'),
        (
            lambda text: text.replace('</bndbox>', '</bndbox><bndbox><xmin>1</xmin></bndbox>'),
            r'Annotations/1\.xml, object 1: it has 2 <bndbox>; write an <object> for each of them',
        ),
        (lambda text: text.replace('>20<', '>nan<'), "<xmax> is 'nan'; a number is needed"),
        (lambda text: text.replace('>20<', '>1e25<'), "<xmax> is '1e25'; a number is needed"),
        (lambda text: text.replace('<bndbox>', '<difficult>no</difficult><bndbox>'), '0 or 1 is'),
        (
            lambda text: text.replace('annotation>', 'annotations>'),
            r'its root is <annotations>, VOC',
        ),
        (
            lambda text: text[:-9],
            r'data set \S+list\.txt: Annotations/1\.xml: no XML, or broken XML',
        ),
    ],
)
def test_a_file_that_cannot_be_used(voc, spoil, message):
    path = voc.root / 'Annotations' / '1.xml'
    path.write_text(spoil(path.read_text()))
    with pytest.raises(DataError, match=message):
        voc()


def test_names_of_a_namespace_are_read(voc):
    """Its objects were lost, and the image was background."""
    path = voc.root / 'Annotations' / '1.xml'
    before = voc()
    path.write_text(path.read_text().replace('<annotation>', '<annotation xmlns="http://voc">'))
    assert [item['instances'] for item in voc()] == [item['instances'] for item in before]


def test_rotated_boxes_become_those_around_them_as_the_message_says(voc):
    """roLabelImg's: centre, sides, and an angle in radians."""
    path = voc.root / 'Annotations' / '1.xml'
    text = path.read_text()
    path.write_text(re.sub('<bndbox>.*</bndbox>', '<robndbox><cx>20</cx></robndbox>', text))
    with pytest.raises(DataError, match=r'object 1: a rotated box \(<robndbox>\)') as error:
        voc()
    names = {'w': 10, 'h': 4, 'angle': 0.5, 'cos': math.cos(0.5), 'sin': math.sin(0.5)}
    found = re.findall(r'\((w \|.*?)\) / 2', str(error.value))
    across, down = (
        eval(re.sub(r'(\w) \|(\w+) angle\|', r'\1 * \2', part), names) / 2 for part in found
    )
    corners = cv2.boxPoints(((0, 0), (10, 4), math.degrees(0.5)))
    assert (across, down) == pytest.approx(tuple(corners.max(0)), abs=1e-5)


def test_a_rotation_among_attributes_is_told(voc):
    """As CVAT's export has it, beside the box that was drawn before it was turned."""
    path = voc.root / 'Annotations' / '1.xml'
    turned = '<attribute><name>rotation</name><value>30.0</value></attribute>'
    other = '<attribute><name>occluded</name><value>False</value></attribute>'
    text = path.read_text().replace('<bndbox>', f'<attributes>{other}{turned}</attributes><bndbox>')
    path.write_text(text)
    report = check_coco(VocSource(voc.root / 'list.txt', voc.root, ('red',)))
    assert [f.detail for f in report.told()['rotated_box']] == ['annotation 1: rotation=30']
    assert len(voc()[1]['instances']) == 1


def test_broken_files_hide_no_other_faults(voc):
    for number, text in ((0, '<annotation>'), (1, None), (2, '<a/>')):
        path = voc.root / 'Annotations' / f'{number}.xml'
        path.unlink() if text is None else path.write_text(text)
    found = check_coco(VocSource(voc.root / 'list.txt', voc.root, ('red',))).by_kind()
    faults = {finding.file: finding.detail for finding in found['bad_record']}
    assert faults.keys() == {f'Annotations/{number}.xml' for number in range(3)}
    told = ('broken XML', 'No such file', "its root is <a>, VOC's")
    assert all(text in detail for text, detail in zip(told, faults.values(), strict=True))


@tries('; leave one of them')
def test_two_images_of_one_name_and_an_image_that_is_missing(voc):
    image = voc.root / 'JPEGImages' / '1.png'
    shutil.copy(image, image.with_suffix('.webp'))
    with pytest.raises(
        DataError, match=r'1\.xml: 1\.png, 1\.webp .* could be its image; leave one'
    ):
        voc()
    image.with_suffix('.webp').unlink()
    assert len(voc()) == 3
    image.unlink()
    report = check_coco(VocSource(voc.root / 'list.txt', voc.root, ('red',)))
    assert list(report.fatal()) == ['missing_image']
    assert report.fatal()['missing_image'][0].file == 'JPEGImages/1.jpg'


def test_images_listed_twice_are_read_once_and_told(voc):
    (voc.root / 'list.txt').write_text('0\n1\n0\n')
    assert len(voc()) == 2
    report = check_coco(VocSource(voc.root / 'list.txt', voc.root, ('red',)))
    assert [finding.detail for finding in report.lost()['duplicate_name']] == ['0']


def test_the_check_of_a_config_with_a_set_of_voc_s_is_that_of_its_annotations(voc, train):
    Path('voc.py').write_text(
        "default_scope = 'mmdet'\n"
        f"dataset = dict(type='VOCDataset', data_root={str(voc.root)!r}, ann_file='list.txt',\n"
        "    data_prefix=dict(sub_data_root=''), metainfo=dict(classes=('red',)))\n"
        'train_dataloader = dict(dataset=dataset)\n'
    )
    check = load_tool('analysis_tools/check_dataset').main
    assert check(['voc.py']) == 0
    text = train.capfd.readouterr().out
    assert 'usable boxes: red 3' in text and 'no image of' not in text
    for path in (voc.root / 'Annotations').iterdir():
        path.write_text(path.read_text().replace('>red<', '>blue<'))
    assert check(['voc.py']) == 1
