"""check_dataset.py on class folders and sets of persons: what it passes is what training reads."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.registry import DATASETS, DefaultScope
from people import make_people, write_people_config
from programs import load_tool
from remedies import tries
from trainer import CLASSES, forget_runs, make_folder, write_config

from effvit_mm.errors import DataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.datasets import CustomDataset
from effvit_mm.openmm.datasets.classification import read_labels


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Runs the tool in the test's folder; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    forget_runs()
    main = load_tool('analysis_tools/check_dataset').main

    def run(*arguments: object) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture
def data(tmp_path):
    return make_folder(tmp_path / 'data', train=3, val=1)


def test_class_folders_are_counted_and_what_is_left_out_is_named(check, tmp_path, data):
    config = write_config(tmp_path / 'c.py', data)
    bars = data / 'train' / 'bars'
    (bars / '@eaDir').mkdir()
    shutil.copy(bars / '0.png', bars / '@eaDir')
    (bars / 'clip.mp4').write_bytes(b'')
    code, text = check(config, '--read-images')
    assert code == 0, text
    line = 'train_dataloader.dataset: 9 images; 3 classes or persons; all images can be read'
    assert line in text and 'val_dataloader.dataset: 3 images; 3 classes' in text
    assert 'passed over: 1 videos (bars/clip.mp4)' in text and '(bars/@eaDir)' in text


@tries('; those that are broken: --read-images')
def test_faults_of_class_folders_are_named(check, tmp_path, data):
    config = write_config(tmp_path / 'c.py', data)
    (data / 'train' / 'dots' / '1.png').write_bytes(b'')
    told = 'images were not opened; those that are broken: --read-images'
    code, text = check(config)
    assert code == 0 and told in text
    code, text = check(config, '--read-images')
    assert code == 1 and 'dots/1.png: the file is empty' in text and told not in text
    for path in (data / 'train' / 'rings').iterdir():
        path.unlink()
    code, text = check(config)
    assert (
        code == 1 and 'train_dataloader.dataset: 6 images; 3 classes or persons; no image' in text
    )
    assert 'no image of rings' in text
    assert check(config, '--cfg-options', 'data_checks.allow_empty_classes=True')[0] == 0
    shutil.rmtree(data / 'val')
    code, text = check(config)
    assert code == 1 and 'val does not exist' in text


def test_sets_of_persons_are_checked_too(check, tmp_path):
    root = make_people(tmp_path / 'people', train=4, test=2)
    config = write_people_config(tmp_path / 'people.py', root)
    code, text = check(config)
    assert code == 0 and 'train_dataloader.dataset: 16 images; 4 classes or persons' in text
    train = root / 'bounding_box_train'
    for path in train.glob('0001*'):
        path.rename(train / path.name.replace('0001', '-1'))
    code, text = check(config)
    assert code == 1 and '4 images of person -1' in text


def test_a_report_is_of_coco_style_sets(check, tmp_path, data):
    code, text = check(write_config(tmp_path / 'c.py', data), '--out', 'report.md')
    assert code == 2 and '--out report.md: it takes COCO-style sets' in text
    assert not Path('report.md').exists()


@tries('; name both alike, or take these folders out')
@pytest.mark.parametrize('changed', ['lacking', 'of another name'])
def test_classes_of_validation_are_matched_by_name(check, tmp_path, data, changed):
    """Labels were those of the folder's own order: a perfect classifier got a third."""
    config = write_config(tmp_path / 'c.py', data)
    dots = data / 'val' / 'dots'
    if changed == 'lacking':
        shutil.rmtree(dots)
        code, text = check(config)
        assert code == 0 and '2 images; 3 classes or persons; no image of dots' in text
        dataset = load_config(str(config), []).val_dataloader.dataset
        assert (dataset.classes_from, dataset.type) == (
            str(data / 'train'),
            'effvit_mm.CustomDataset',
        )
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            built = DATASETS.build(dataset)
        assert built.metainfo['classes'] == CLASSES
        found = [(Path(built[i]['data_samples'].img_path).parent.name, built.get_gt_labels()[i])
                 for i in range(len(built))]  # fmt: skip
        assert found == [('bars', 0), ('rings', 2)]
    else:
        dots.rename(dots.with_name('Dots'))
        code, text = check(config)
        assert code == 1
        assert 'val has 3 class folders (Dots, bars, rings), but' in text
        assert '(bars, dots, rings), without Dots; name both alike' in text
        dots.with_name('Dots').rename(dots)
        assert check(config)[0] == 0
        dots.rename(data / 'Dots')  # out of the set
        assert check(config)[0] == 0


@pytest.mark.parametrize(
    ('names', 'labels'),
    [
        (('rings', 'bars', 'dots'), [1, 2, 0]),  # other order: the names decide
        (('a line', 'points', 'a circle'), [0, 1, 2]),  # what folders are called
        (('bars', 'points', 'a circle'), [0, 1, 2]),
        (('zebras', 'bars', 'dots', 'rings'), [1, 2, 3]),
        (('points', 'bars', 'rings'), None),
        (('bars', 'rings'), None),
    ],
)
def test_names_of_classes_that_are_given(data, names, labels):
    def make():
        return CustomDataset(data_root=str(data), data_prefix='train', classes=names)

    if labels is None:
        with pytest.raises(DataError, match='name both alike'):
            make()
    else:
        dataset = make()
        infos = map(dataset.get_data_info, range(len(dataset)))
        found = {(Path(info['img_path']).parent.name, int(info['gt_label'])) for info in infos}
        assert found == set(zip(CLASSES, labels, strict=True))
        assert dataset.metainfo['classes'] == names


@pytest.mark.parametrize(
    'text',
    [
        'bars/0.png 0\nrings/a b.png 2\n',
        '\ufeffbars/0.png\t0\r\n\r\nrings/a b.png\t2\r\n',
        'bars/0.png,0\nrings/a b.png, 2\n',
        'bars/0.png bars\nrings/a b.png,rings',
    ],
)
def test_lists_of_files_and_labels(tmp_path, text):
    path = tmp_path / 'list.txt'
    path.write_text(text, encoding='utf-8', newline='')
    assert read_labels(path, CLASSES) == [('bars/0.png', 0), ('rings/a b.png', 2)]


def test_a_line_of_a_list_that_cannot_be_used(data):
    def make(text: str, **options) -> CustomDataset:
        (data / 'list.txt').write_text(text)
        return CustomDataset(
            data_root=str(data), data_prefix='train', ann_file='list.txt', **options
        )

    with pytest.raises(DataError, match=r"list\.txt, line 1: 'file,label'; a file is needed"):
        make('file,label\nbars/0.png,0\n')
    named = 'bars/0.png bars\ndots/0.png dots\n'
    with pytest.raises(DataError, match=r'or its name in metainfo\.classes'):
        make(named)
    assert make(named, metainfo={'classes': CLASSES}).get_gt_labels().tolist() == [0, 1]
    with pytest.raises(DataError, match=r'or its name \(bars, dots, rings\)'):
        make('bars/0.png Bars\n', metainfo={'classes': CLASSES})


def test_a_list_that_names_files_twice_or_such_as_are_not_there(check, tmp_path, data, capsys):
    lines = [f'{name}/{n}.png {name}\n' for name in CLASSES for n in range(3)]
    listed = data / 'list.txt'
    config = write_config(tmp_path / 'c.py', data)
    options = ['train_dataloader.dataset.ann_file=list.txt', 'train_cfg.max_epochs=1']
    options += [f'train_dataloader.dataset.metainfo.classes={list(CLASSES)}', 'param_scheduler=[]']

    def said(text: str) -> Iterator[tuple[int, str]]:
        listed.write_text(text)
        forget_runs()
        yield check(config, '--cfg-options', *options)
        forget_runs()
        code = cli.train([str(config), '--work-dir', 'w', '--cfg-options', *options])
        captured = capsys.readouterr()
        yield code, captured.out + captured.err

    for code, text in said(''.join(lines)):
        assert code == 0 and 'list.txt' not in text
    again = [lines[0], 'dots/1.png rings\n']
    for code, text in said(''.join([*lines, *again])):
        message = rf'2 images are listed more than once \({data}/train/bars/0\.png\), 1 of them '
        assert code == 0 and len(re.findall(message + r'with other labels \(\S+/1\.png', text)) == 1
    for code, text in said(''.join([*lines, 'bars/9.png bars\n'])):
        message = f'1 of its 10 images do not exist, the first is {data}/train/bars/9.png; correct'
        assert code != 0 and text.count(message) == 1, text


def test_a_set_to_validate_on_gets_the_classes_of_training(tmp_path, data, monkeypatch, capsys):
    """Another number for the head would spoil the training: names of training's classes help."""
    monkeypatch.chdir(tmp_path)
    config = str(write_config(tmp_path / 'c.py', data))
    (data / 'val.txt').write_text('val/bars/0.png bars\nval/rings/0.png rings\n')
    options = [
        'train_cfg.max_epochs=1',
        'param_scheduler=[]',
        'val_dataloader.dataset.data_prefix=',
    ]
    options += [f'val_dataloader.dataset.ann_file={data / "val.txt"}']
    key = 'val_dataloader.dataset.metainfo.classes'

    def train(classes: str) -> int:
        forget_runs()
        return cli.train([config, '--work-dir', 'w', '--cfg-options', *options, f'{key}={classes}'])

    assert train("('bars','rings')") == 2
    told = capsys.readouterr().err
    assert 'set model.head.num_classes=2 if the model was trained on these classes; else' in told
    assert f'those of training, in their order ({key})' in told
    assert train("('bars','dots','rings')") == 0


@pytest.mark.parametrize('metric', ['SingleLabelMetric', 'ConfusionMatrix'])
def test_a_metric_of_another_number_of_classes_is_refused(check, tmp_path, data, capsys, metric):
    judge = f"val_evaluator = [dict(type='Accuracy'), dict(type='{metric}', num_classes=2)]\n"
    judge += 'test_evaluator = val_evaluator\n'
    config = write_config(tmp_path / 'c.py', data, judge)
    message = 'val_evaluator.1.num_classes=2: the set that it judges has 3 classes; set val_'
    code, text = check(config)
    assert code == 1 and message in text
    run = [str(config), '--work-dir', 'w', '--cfg-options', 'train_cfg.max_epochs=1']
    run.append('param_scheduler=[]')
    assert cli.train(run) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: {message}') and error.count('\n') == 1, error
    advised = ['val_evaluator.1.num_classes=3']
    assert check(config, '--cfg-options', *advised)[0] == 0
    forget_runs()
    assert cli.train([*run, *advised]) == 0
    forget_runs()
    assert cli.test([str(config), 'w/epoch_1.pth', '--work-dir', 'w']) == 2
    assert f'error: {message.replace("val_", "test_", 1)}' in capsys.readouterr().err.replace(
        'set test_', 'set val_'
    )


def test_a_metric_of_several_labels_is_told_where_images_have_one(check, tmp_path, data, capsys):
    judge = "val_evaluator = dict(_delete_=True, type='MultiLabelMetric')\n"
    config = write_config(tmp_path / 'c.py', data, judge.replace('_delete_=True, ', ''))
    message = 'val_evaluator (MultiLabelMetric) judges each class by itself'
    code, text = check(config)
    assert code == 0 and text.count(message) == 1
    run = [str(config), '--work-dir', 'w', '--cfg-options', 'train_cfg.max_epochs=1']
    assert cli.train([*run, 'param_scheduler=[]']) == 0
    assert capsys.readouterr().out.count(f'warning: {message}') == 1


def test_persons_whose_images_are_copied_are_told(check, tmp_path, capsys):
    root = make_people(tmp_path / 'people')
    config = write_people_config(tmp_path / 'people.py', root)
    assert 'persons have fewer' not in check(config)[1]
    for path in sorted((root / 'bounding_box_train').glob('0003*'))[1:]:
        path.unlink()
    message = (
        'sampler: 1 of 5 persons have fewer than num_instances=2 images, 1 of them a single one '
        '(3): copies fill their places in a batch; add images of them, take these persons out'
    )
    for run in (
        lambda: check(config),
        lambda: (cli.train([str(config), '--work-dir', 'w', '--no-validate']), ''),
    ):
        forget_runs()
        code, text = run()
        text = ' '.join((text + capsys.readouterr().out).split())
        assert code == 0 and text.count(message) == 1, text
    one = 'train_dataloader.sampler.allow_repeats=False'
    code, text = check(config, '--cfg-options', one)
    assert code == 1 and 'train_dataloader: sampler: 1 of 5 persons' in text
    code, text = check(config, '--cfg-options', 'train_dataloader.sampler.num_persons=9')
    assert code == 1 and 'needs 9 different persons' in text


@pytest.mark.parametrize('kind', ['CustomDataset', 'effvit_mm.ImageFolder'])
def test_a_class_that_validation_lacks_is_told_of_either_kind_of_set(tmp_path, data, capsys, kind):
    config = write_config(tmp_path / 'c.py', data)
    if kind != 'CustomDataset':
        text = config.read_text().replace("type='CustomDataset'", f"type='{kind}'")
        config.write_text(text.replace('data_prefix=', 'split='))
    shutil.rmtree(data / 'val' / 'dots')
    forget_runs()
    run = [str(config), '--work-dir', str(tmp_path / 'w'), '--cfg-options', 'param_scheduler=[]']
    assert cli.train([*run, 'train_cfg.max_epochs=1']) == 0
    assert re.search(r"warning: .*val: no images of (the class )?'?dots", capsys.readouterr().out)


def test_queries_without_a_match_are_told_before_the_start(check, tmp_path, capsys):
    root = make_people(tmp_path / 'people')
    config = write_people_config(tmp_path / 'people.py', root)
    for path in (root / 'bounding_box_test').glob('0006_c2*'):
        path.unlink()
    message = (
        'val_dataloader.dataset: 1 of 4 queries have no match by another camera in the gallery'
    )
    code, text = check(config)
    assert code == 0 and text.count(message) == 1
    forget_runs()
    assert cli.train([str(config), '--work-dir', 'w']) == 0
    before, _, after = capsys.readouterr().out.partition('Epoch(train)')
    assert message in ' '.join(before.split()) and message not in after
    for path in (root / 'bounding_box_test').glob('*_c2*'):
        path.unlink()
    for path in (root / 'query').glob('*_c2*'):
        path.unlink()
    code, text = check(config, '--cfg-options', 'val_dataloader.dataset.min_cameras=1')
    assert code == 1 and 'val_dataloader.dataset: none of the' in text
