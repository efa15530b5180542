"""Images that are trained on and judged by are told in one line, of all kinds of sets, and pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from coco_sets import make_coco, make_config, write
from people import make_people, write_people_config
from programs import load_tool
from remedies import tries
from trainer import forget_runs, make_folder, write_config

pytest.importorskip('mmdet')
from effvit_mm.openmm import cli


def coco(folder: Path) -> tuple[Path, list[str], str]:
    """A config, options with which two sets share images, and the first of these."""
    config = make_config(folder)
    data = folder / 'data'
    whole = make_coco(folder / 'other', images=5, splits=())
    for split, numbers in (('train', (0, 1, 2)), ('val', (3, 4)), ('shared', (4, 2, 1))):
        images = [image for image in whole['images'] if image['id'] in numbers]
        objects = [item for item in whole['annotations'] if item['image_id'] in numbers]
        write(data, {**whole, 'images': images, 'annotations': objects}, split)
    options = [f'val_{key}=shared.json' for key in ('dataloader.dataset.ann_file',)]
    options.append(f'val_evaluator.ann_file={data}/shared.json')
    return config, options, str(data / 'images' / '1.png')


def voc(folder: Path) -> tuple[Path, list[str], str]:
    make_coco(folder / 'plain')
    root = folder / 'voc'
    (root / 'Annotations').mkdir(parents=True)
    (folder / 'plain' / 'images').rename(root / 'JPEGImages')
    box = '<xmin>3</xmin><ymin>5</ymin><xmax>20</xmax><ymax>24</ymax>'
    for number in range(3):
        (root / 'Annotations' / f'{number}.xml').write_text(
            f'<annotation><object><name>red</name><bndbox>{box}</bndbox></object></annotation>'
        )
    for split, names in (('train', '01'), ('val', '2'), ('shared', '120')):
        (root / f'{split}.txt').write_text('\n'.join(names))
    config = folder / 'voc.py'
    config.write_text(
        "default_scope = 'mmdet'\n"
        f"common = dict(type='VOCDataset', data_root={str(root)!r},\n"
        "    data_prefix=dict(sub_data_root=''), metainfo=dict(classes=('red',)))\n"
        "train_dataloader = dict(dataset=dict(ann_file='train.txt', **common))\n"
        "val_dataloader = dict(dataset=dict(ann_file='val.txt', test_mode=True, **common))\n"
    )
    options = ['val_dataloader.dataset.ann_file=shared.txt']
    return config, options, str(root / 'JPEGImages' / '1.png')


def folders(folder: Path) -> tuple[Path, list[str], str]:
    data = make_folder(folder / 'data', train=3, val=1)
    config = write_config(folder / 'c.py', data)
    return config, ['val_dataloader.dataset.data_prefix=train'], str(data / 'train/bars/0.png')


def persons(folder: Path) -> tuple[Path, list[str], str]:
    root = make_people(folder / 'people')
    config = write_people_config(folder / 'people.py', root)
    options = [
        'val_dataloader.dataset.allow_shared_ids=True',
        'val_dataloader.dataset.folders.gallery=bounding_box_train',
        'val_dataloader.dataset.folders.query=bounding_box_train',
    ]
    return config, options, str(root / 'bounding_box_train' / '0001_c1s1_000000_00.png')


@tries('; take them out of one of the two')
@pytest.mark.parametrize('kind', [coco, voc, folders, persons])
def test_the_check_tells_of_them(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    config, options, first = kind(tmp_path)
    check = load_tool('analysis_tools/check_dataset').main
    codes = [check([str(config), *extra]) for extra in ([], ['--cfg-options', *options])]
    said = capsys.readouterr().out
    lines = re.findall(r'^.* images of val_dataloader are in train_dataloader too.*$', said, re.M)
    assert codes == [0, 0], said
    assert len(lines) == 1 and f'the first is {first}: its figures are' in lines[0], said


@pytest.mark.parametrize('kind', [coco, folders, persons])
def test_a_training_tells_of_them_and_goes_on(tmp_path, monkeypatch, capfd, kind):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    config, options, first = kind(tmp_path)
    short = ['train_cfg.max_epochs=1', 'param_scheduler=[]']
    said = []
    for extra in ([], options):
        forget_runs()
        assert cli.train([str(config), '--work-dir', 'w', '--cfg-options', *short, *extra]) == 0
        said.append(capfd.readouterr().out)
    told = [re.findall(r'warning: (\d+ of \d+) images of val_dataloader are in', t) for t in said]
    counts = {coco: '2 of 3', folders: '9 of 9', persons: '20 of 20'}
    assert told == [[], [counts[kind]]], said
    assert first in said[1]
