"""Faulty detection data end a training before it begins: one line, exit code 2."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from coco_sets import SIZE, make_coco, make_config, write, write_config
from programs import load_tool
from projects import MASK_RCNN
from trainer import forget_runs

from effvit_mm.errors import DataError
from effvit_mm.openmm.datasets.transforms import LoadImage
from effvit_mm.weights.checkpoint import read_checkpoint

pytest.importorskip('mmdet')
from effvit_mm.openmm import cli

PLAIN = (
    'train_dataloader.dataset.type=CocoDataset',
    'train_dataloader.dataset.metainfo.classes=["red","white","platelet"]',
)
MASKS = ('train_dataloader.dataset.pipeline.1.with_mask=True',)


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Spoil the data, train; give the exit code and what was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('EFFVIT_MM_DEBUG', raising=False)
    data = make_coco(tmp_path / 'data')
    config = write_config(tmp_path / 'small.py', tmp_path / 'data')

    def call(change=None, options: tuple[str, ...] = ()) -> tuple[int, str]:
        if change is not None:
            change(data)
            write(tmp_path / 'data', data)
        forget_runs()
        extra = ('--cfg-options', *options) if options else ()
        code = cli.train([str(config), '--work-dir', 'w', *extra])
        return code, capfd.readouterr().err

    return call


def fails(run, change=None, options: tuple[str, ...] = ()) -> str:
    code, err = run(change, options)
    assert code == 2, err
    assert re.fullmatch(r'error: [^\n]+\n', err), err
    return err


def test_sound_data_train(run, tmp_path):
    code, err = run()
    assert code == 0, err
    assert (tmp_path / 'w' / 'epoch_1.pth').is_file()


@pytest.mark.parametrize('options', [(), PLAIN])
def test_a_file_cut_short(run, tmp_path, options):
    path = tmp_path / 'data' / 'train.json'
    path.write_text(path.read_text()[:-30])
    assert re.search(r'annotation file .*train\.json is cut short', fails(run, options=options))


def test_a_missing_file(run, tmp_path):
    (tmp_path / 'data' / 'train.json').unlink()
    assert re.search(r'train\.json: No such file', fails(run))


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('data_root=nowhere', r'annotation file nowhere/train\.json: No such file'),
        ('ann_file=images/0.png', r'images/0\.png: not text in UTF-8 .*save it in UTF-8'),
        ('data_prefix.img=pictures', r'do not exist .* 0\.png, .*pictures/0\.png.* 2 more'),
    ],
)
def test_a_place_with_no_such_set(run, option, message):
    assert re.search(message, fails(run, options=(f'train_dataloader.dataset.{option}',)))


def test_category_ids_that_the_file_does_not_list(run):
    err = fails(run, lambda data: data['annotations'][3].update(category_id=77))
    assert re.search(r'train_dataloader\.dataset: category ids .* 1\.png, annotation 4: .*77', err)


def test_categories_that_the_config_does_not_know(run):
    options = (
        'train_dataloader.dataset.metainfo.classes=["red","white"]',
        'model.bbox_head.num_classes=2',
    )
    err = fails(run, options=options)
    assert re.search(
        r'config does not know .*category_id=30 \(platelet\), the classes are red, white and 1 '
        r'more; .*allow_unknown',
        err,
    )
    assert run(options=(*options, 'data_checks.allow_unknown_categories=True'))[0] == 0


def test_classes_of_coco_for_other_data(run):
    err = fails(run, options=PLAIN[:1])
    assert re.search(r'none of the 80 classes \(person, .*effvit_mm\.CocoFolder', err)


def test_all_images_without_objects(run):
    err = fails(run, lambda data: data['annotations'].clear())
    assert re.search(r'no image has an object in .*train\.json: 3 images, 0 annotations', err)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda path: path.write_bytes(b''), r'zero bytes in .*train\.json: 1\.png, .*/1\.png'),
        (lambda path: path.unlink(), r'do not exist .*1\.png: No such file'),
        (lambda path: path.write_bytes(path.read_bytes()[:-800]), r'corrupt image .*1\.png'),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_read(run, tmp_path, spoil, message):
    spoil(tmp_path / 'data' / 'images' / '1.png')
    assert re.search(message, fails(run))


def test_masks_that_are_missing(run):
    err = fails(run, lambda data: data['annotations'][2].pop('segmentation'), MASKS)
    assert re.search(
        r'objects without a mask in .* 1\.png, annotation 3; train .*without masks', err
    )


def test_another_number_of_classes(run):
    err = fails(run, options=('model.bbox_head.num_classes=80',))
    assert re.search(
        r'has 3 classes \(red, white, platelet\), but model\.bbox_head has num_classes=80; '
        r'set model\.bbox_head\.num_classes=3',
        err,
    )


@pytest.mark.parametrize('kind', [(), PLAIN])
def test_annotation_ids_used_twice_are_numbered_anew(run, kind):
    code, err = run(lambda data: data['annotations'][1].update(id=1), kind)
    assert code == 0, err


def test_image_ids_used_twice(run):
    err = fails(run, lambda data: data['images'][1].update(id=0))
    assert re.search(r'image ids used twice in .*1\.png, id 0 is that of 0\.png too; give', err)


def log_text() -> str:
    """What the run in the work folder `w` has logged."""
    return ''.join(path.read_text() for path in Path('w').glob('*/*.log'))


# What is evaluated --------------------------------------------------------------------------------


def rename_an_image(data):
    data['images'][1]['file_name'] = 'other.png'


SPOILED = {
    'images': (
        lambda d: d['images'].pop(),
        r'1 of 5 images differ; the first, id 4, is none and 4\.png',
    ),
    'names': (rename_an_image, r'the first, id 1, is other\.png and 1\.png there'),
    'classes': (
        lambda d: [c.update(name=str(c['id'])) for c in d['categories']],
        r'categories \(10, 20, 30\) have none of the 3 classes \(red, white, platelet\)',
    ),
    'iscrowd': (
        lambda d: d['annotations'][0].update(iscrowd='no'),
        r"annotation 0 of the list \(id 1\): iscrowd='no' is not 0 or 1",
    ),
}


def evaluation_fails(folder, capfd, monkeypatch) -> str:
    monkeypatch.chdir(folder)
    forget_runs()
    code = cli.train([str(folder / 'judged.py'), '--work-dir', 'w'])
    err = capfd.readouterr().err
    assert code == 2 and re.fullmatch(r'error: val_evaluator\.ann_file[^\n]+\n', err), err
    assert not list(folder.glob('w/*.pth'))
    return err


@pytest.fixture
def judged(tmp_path) -> Path:
    """An annotation file that the config's evaluator is given beside the loader's."""
    config = make_config(tmp_path)
    path = tmp_path / 'data' / 'judged.json'
    path.write_text((tmp_path / 'data' / 'val.json').read_text())
    (tmp_path / 'judged.py').write_text(
        f'_base_ = {config.name!r}\nval_evaluator = dict(ann_file={str(path)!r})\n'
    )
    return path


@pytest.mark.parametrize('fault', SPOILED)
def test_an_evaluator_with_another_set(judged, tmp_path, capfd, monkeypatch, fault):
    change, message = SPOILED[fault]
    data = json.loads(judged.read_text())
    change(data)
    judged.write_text(json.dumps(data))
    assert re.search(message, evaluation_fails(tmp_path, capfd, monkeypatch))


def test_an_evaluator_with_a_copy_of_the_set(judged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget_runs()
    assert cli.train([str(tmp_path / 'judged.py'), '--work-dir', 'w']) == 0


# Batches with nothing in them ---------------------------------------------------------------------


@pytest.fixture
def instances(tmp_path, monkeypatch):
    """Train a small Mask R-CNN of another project on images some of which have no objects."""
    monkeypatch.chdir(tmp_path)
    data = make_coco(tmp_path / 'data', images=3, splits=('val',))
    data['annotations'] = [a for a in data['annotations'] if a['image_id'] == 0]
    write(tmp_path / 'data', data)
    (tmp_path / 'mask.py').write_text(MASK_RCNN)

    def call(*options: str) -> int:
        forget_runs()
        keep = 'train_dataloader.dataset.filter_cfg.filter_empty_gt=False'
        one = ('train_dataloader.batch_size=1', 'randomness.seed=0')
        return cli.train(['mask.py', '--work-dir', 'w', '--cfg-options', keep, *one, *options])

    return call


def test_batches_without_objects(instances, tmp_path):
    assert instances() == 0
    assert read_checkpoint(tmp_path / 'w' / 'epoch_1.pth')['meta']['iter'] == 3


def test_both_heads_are_named_with_their_classes(instances, capfd):
    keys = [f'model.roi_head.{head}.num_classes' for head in ('bbox_head', 'mask_head')]
    assert instances(*(f'{key}=80' for key in keys)) == 2
    err = capfd.readouterr().err
    assert re.search(r'has 3 classes .* num_classes=80; set ' + '=3 '.join(keys) + '=3$', err), err


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        ("type='RandomCrop', crop_size=(2, 2), allow_negative_crop=True", ''),
        ("type='FilterAnnotations', min_gt_bbox_wh=(99, 99)", r'left nothing of \d+ images'),
    ],
)
def test_a_pipeline_that_loses_all_boxes(tmp_path, monkeypatch, capfd, step, message):
    """Images without boxes are trained on; where not one image is left, there is no training."""
    monkeypatch.chdir(tmp_path)
    make_coco(tmp_path / 'data')
    write_config(tmp_path / 'small.py', tmp_path / 'data')
    (tmp_path / 'cropped.py').write_text(
        f"_base_ = './small.py'\nsteps = [*_base_.pipeline[:2], dict({step}), _base_.pipeline[2]]\n"
        'train_dataloader = dict(dataset=dict(pipeline=steps, max_refetch=20))\n'
    )
    forget_runs()
    code = cli.train(['cropped.py', '--work-dir', 'w', '--seed', '0'])
    err = capfd.readouterr().err
    assert code == (2 if message else 0), err
    assert re.search(message, err), err


# VOC ----------------------------------------------------------------------------------------------

VOC_CONFIG = """
_base_ = './small.py'
train_dataloader = dict(dataset=dict(
    _delete_=True, type='VOCDataset', data_root='voc', ann_file='VOC2007/train.txt',
    data_prefix=dict(sub_data_root='VOC2007/'), pipeline=_base_.pipeline,
    metainfo=dict(classes=('red', 'white', 'platelet')),
))
"""


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """Three images with an object each, of class red but for the last."""
    monkeypatch.chdir(tmp_path)
    make_coco(tmp_path / 'data')
    write_config(tmp_path / 'small.py', tmp_path / 'data')
    (tmp_path / 'voc.py').write_text(VOC_CONFIG)
    root = tmp_path / 'voc' / 'VOC2007'
    (root / 'Annotations').mkdir(parents=True)
    (tmp_path / 'data' / 'images').rename(root / 'JPEGImages')
    for number, name in enumerate(('red', 'red', 'blue')):
        (root / 'JPEGImages' / f'{number}.png').rename(root / 'JPEGImages' / f'{number}.jpg')
        box = '<xmin>3</xmin><ymin>5</ymin><xmax>20</xmax><ymax>24</ymax>'
        (root / 'Annotations' / f'{number}.xml').write_text(
            '<annotation><size><width>48</width><height>36</height></size>'
            f'<object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>'
        )
    (root / 'train.txt').write_text('0\n1\n2\n')

    def call(*options: str) -> int:
        forget_runs()
        extra = ('--cfg-options', *options) if options else ()
        return cli.train(['voc.py', '--work-dir', 'w', *extra])

    return call


def test_voc_with_a_class_that_the_config_does_not_know(voc, capfd):
    assert voc() == 2
    err = capfd.readouterr().err
    assert re.search(
        r'^error: train_dataloader\.dataset: boxes of categories .* in voc/VOC2007/train\.txt: '
        r"JPEGImages/2\.jpg, annotation 1: category_id='blue', the classes are red, white, plate"
        r'let; give all in metainfo\.classes; .*allow_unknown_categories=True\n$',
        err,
    ), err
    assert voc('data_checks.allow_unknown_categories=True') == 0
    assert re.search(r'1 boxes of categories .*blue.* are left out', ' '.join(log_text().split()))


@pytest.mark.parametrize('spoil', [lambda text: text[:-20], 'é{}'.format, lambda text: ''])
def test_voc_with_a_broken_file(voc, tmp_path, capfd, spoil):
    path = tmp_path / 'voc' / 'VOC2007' / 'Annotations' / '1.xml'
    path.write_text(spoil(path.read_text()))
    assert voc() == 2
    text = (
        r'^error: train_dataloader\.dataset: records that cannot be used in \S+/train\.txt: '
        r'Annotations/1\.xml, no XML, or broken XML: [^\n]+; mend them, or take them out\n$'
    )
    assert re.search(text, capfd.readouterr().err)


def test_the_tool_checks_the_sets_of_a_config(tmp_path, capsys):

    module = load_tool('analysis_tools/check_dataset')
    data = make_coco(tmp_path / 'data')
    config = str(write_config(tmp_path / 'small.py', tmp_path / 'data'))
    assert module.main([config]) == 0
    out = capsys.readouterr().out
    assert 'train_dataloader.dataset: 3 images, 6 annotations' in out and 'no faults' in out
    key = 'model.bbox_head.num_classes'
    assert module.main([config, '--cfg-options', f'{key}=7']) == 1  # a training would refuse it
    number = re.search(
        rf'{key}=7, but train_dataloader.dataset has (\d) classes: set',
        out := capsys.readouterr().out,
    )
    assert number, out
    assert module.main([config, '--cfg-options', f'{key}={number[1]}']) == 0
    data['annotations'][0]['segmentation'] = []
    write(tmp_path / 'data', data)
    assert module.main([config]) == 0, 'masks are not asked for'
    report = tmp_path / 'report.md'
    assert module.main([config, '--out', str(report), '--cfg-options', *MASKS]) == 1
    assert '| objects without a mask | 1 | yes | stops' in report.read_text()
    assert module.main([config, '--splits', 'val']) == 2
    assert 'no COCO- or VOC-style data set in val' in capsys.readouterr().err


def test_an_image_of_another_size_than_its_annotations_say(tmp_path):
    data = make_coco(tmp_path)
    path = str(tmp_path / 'images' / data['images'][0]['file_name'])
    sizes = {'height': SIZE[1], 'width': SIZE[0]}
    assert LoadImage()({'img_path': path, **sizes})['img_shape'] == (SIZE[1], SIZE[0])
    message = f'0.png has {SIZE[0]}x{SIZE[1]} pixels, its annotations say {SIZE[1]}x{SIZE[0]}'
    with pytest.raises(DataError, match=message):
        LoadImage()({'img_path': path, 'height': SIZE[0], 'width': SIZE[1]})
