"""Names of classes decide whether a checkpoint belongs to a data set, not their number."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from remedies import said, tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.openmm import cli
from effvit_mm.openmm.data_checks.class_names import class_names, name_difference, trained_names

ALLOWED = 'data_checks.allow_other_class_names=True'


@pytest.fixture(autouse=True)
def fresh_run(tmp_path, monkeypatch):
    forget_runs()
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of images, and the checkpoint of a training on it."""
    folder = tmp_path_factory.mktemp('trained')
    data = make_folder(folder / 'data', train=3, val=2)
    config = write_config(folder / 'trained.py', data, 'train_cfg.update(max_epochs=1)\n')
    forget_runs()
    assert cli.train([str(config), '--work-dir', str(folder / 'work')]) == 0
    return data, folder / 'work' / 'epoch_1.pth'


@pytest.fixture
def renamed(trained, tmp_path) -> Path:
    """A config of the same images, where two classes have each other's folders."""
    data = tmp_path / 'renamed'
    shutil.copytree(trained[0], data)
    for split in ('train', 'val'):
        (data / split / 'rings').rename(data / split / 'crosses')
    return write_config(tmp_path / 'renamed.py', data, 'train_cfg.update(max_epochs=2)\n')


def test_a_test_on_other_classes_is_refused(trained, renamed, capfd):
    arguments = [str(renamed), str(trained[1]), '--work-dir', 'w']
    assert cli.test(arguments) == 2
    err = capfd.readouterr().err
    wanted = (
        r'error: checkpoint \S*epoch_1\.pth was trained for other classes \(bars, dots, rings\) '
        r"than bars, crosses, dots: label 1 was 'dots' and is 'crosses' in "
        rf'test_dataloader\.dataset; [^\n]*{ALLOWED}\n'
    )
    assert re.fullmatch(wanted, err), err
    forget_runs()
    assert cli.test([*arguments, '--cfg-options', ALLOWED]) == 0
    assert 'trained for other classes' in ' '.join(capfd.readouterr().out.split())


def test_a_training_is_resumed_on_its_own_classes_alone(trained, renamed, capfd):
    arguments = [str(renamed), '--work-dir', 'w', '--resume', str(trained[1])]
    assert cli.train(arguments) == 2
    assert "label 1 was 'dots' and is 'crosses' in train_dataloader" in capfd.readouterr().err


def test_a_training_that_begins_with_weights_of_other_classes_is_told(trained, renamed, capfd):
    options = ('--cfg-options', f'load_from={trained[1]}', 'train_cfg.max_epochs=1')
    assert cli.train([str(renamed), '--work-dir', 'w', *options]) == 0
    said = ' '.join(capfd.readouterr().out.split())
    assert 'trained for other classes (bars, dots, rings) than bars, crosses, dots' in said


@tries(
    "; give the data set the checkpoint's classes in its order or, where other names mean the "
    'same, set data_checks.{}=True'
)
def test_a_detector_of_other_classes_is_not_tested(tmp_path, capfd):
    pytest.importorskip('mmdet')
    import torch
    from coco_sets import NAMES, make_config

    from effvit_mm.openmm.config.loading import load_config
    from effvit_mm.openmm.trained import build_detector

    config = make_config(tmp_path)
    cfg = load_config(str(config), [])
    content = {
        'state_dict': build_detector(cfg, 'small').state_dict(),
        'meta': {'dataset_meta': {'classes': NAMES[::-1]}},
    }
    torch.save(content, 'turned.pth')
    assert cli.test([str(config), 'turned.pth', '--work-dir', 'w']) == 2
    err = capfd.readouterr().err
    assert 'turned.pth was trained for the same classes in another order' in err, err
    assert said("give the data set the checkpoint's classes in its order", err)
    order = f'test_dataloader.dataset.metainfo.classes=({",".join(NAMES[::-1])})'
    for instead in (order, ALLOWED):
        forget_runs()
        assert (
            cli.test([str(config), 'turned.pth', '--work-dir', 'w', '--cfg-options', instead]) == 0
        )


def test_persons_are_the_classes_of_a_training_alone(tmp_path):
    """Those who are searched for are never those of the training."""
    from people import make_people

    from effvit_mm.openmm.reid.datasets import ReIDDataset

    make_people(tmp_path / 'data')
    options = {'source': 'folder', 'data_root': str(tmp_path / 'data')}
    sets = {split: ReIDDataset(split=split, **options) for split in ('train', 'test')}
    assert len(class_names(sets['train'])) == sets['train'].num_pids
    assert class_names(sets['test']) is None


@pytest.mark.parametrize(
    ('meta', 'names'),
    [
        ({'dataset_meta': {'classes': ['a', 'b']}}, ('a', 'b')),
        ({'dataset_meta': {'CLASSES': ('a', 'b')}}, ('a', 'b')),
        ({'CLASSES': ('a', 'b'), 'epoch': 3}, ('a', 'b')),  # mmdet 2, mmcls
        ({'dataset_meta': None}, None),
        ({'dataset_meta': {'classes': ()}}, None),
        (None, None),
    ],
)
def test_where_a_checkpoint_has_its_names(meta, names):
    assert trained_names({'state_dict': {}, 'meta': meta}) == names


def test_what_is_a_difference():
    assert not name_difference(('a', 'b'), ('a', 'b'))
    assert not name_difference(None, ('a', 'b'))
    assert not name_difference(('a', 'b'), None)
    assert not name_difference(('a', 'b'), ('a', 'b', 'c'))  # their number is told elsewhere
    assert 'another order' in name_difference(('a', 'b'), ('b', 'a'))
    assert "label 1 was 'b' and is 'c'" in name_difference(('a', 'b'), ('a', 'c'))
