"""Faulty detection data end a training before it begins: one line, exit code 2."""

from __future__ import annotations

import re

import pytest
from coco_sets import make_coco, write, write_config
from trainer import forget_runs

pytest.importorskip('mmdet')
from effvit_mm.engine import cli

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


def test_category_ids_that_the_file_does_not_list(run):
    err = fails(run, lambda data: data['annotations'][3].update(category_id=77))
    assert re.search(r'train_dataloader\.dataset: category ids .* 1\.png, annotation 4: .*77', err)


def test_categories_that_the_config_does_not_know(run):
    options = (
        'train_dataloader.dataset.metainfo.classes=["red","white"]',
        'model.bbox_head.num_classes=2',
    )
    err = fails(run, options=options)
    assert re.search(r'config does not know .*category_id=30 and 1 more; .*allow_unknown', err)
    assert run(options=(*options, 'data_checks.allow_unknown_categories=True'))[0] == 0


def test_classes_of_coco_for_other_data(run):
    err = fails(run, options=PLAIN[:1])
    assert re.search(r'lack 80 of 80 classes \(person, .*effvit_mm\.CocoFolder', err)


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
def test_ids_used_twice(run, kind):
    err = fails(run, lambda data: data['annotations'][1].update(id=1), kind)
    assert re.search(r'annotation ids used twice in .*0\.png, annotation 1', err)


def test_the_tool_checks_the_sets_of_a_config(tmp_path, capsys):
    import importlib.util
    from pathlib import Path

    tool = Path(__file__).resolve().parents[1] / 'tools' / 'analysis_tools' / 'check_dataset.py'
    spec = importlib.util.spec_from_file_location('check_dataset', tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = make_coco(tmp_path / 'data')
    config = str(write_config(tmp_path / 'small.py', tmp_path / 'data'))
    assert module.main([config]) == 0
    out = capsys.readouterr().out
    assert 'train_dataloader.dataset: 3 images, 6 annotations' in out and 'no faults' in out
    data['annotations'][0]['segmentation'] = []
    write(tmp_path / 'data', data)
    assert module.main([config]) == 0, 'masks are not asked for'
    report = tmp_path / 'report.md'
    assert module.main([config, '--out', str(report), '--cfg-options', *MASKS]) == 1
    assert '| objects without a mask | 1 | yes | stops' in report.read_text()
    assert module.main([config, '--splits', 'val']) == 2
    assert 'no COCO-style data set in val' in capsys.readouterr().err
