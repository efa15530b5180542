"""What messages about data sets and their classes advise, done: they load and train."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope
from mmpretrain import get_model
from remedies import said, tries
from students import CLASSES, DIGITS, build, randomised
from trainer import forget_runs, make_folder, write_config

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.datasets import ImageFolder, ImageNet, classification
from effvit_mm.openmm.datasets.classification import CustomDataset
from effvit_mm.sample_data.folders import make_once

ONE_EPOCH = 'train_cfg.update(max_epochs=1)\n'
# The same data by the class that finds its classes in the folder of training.
FOLDERS = """
for name, loader in (('train', train_dataloader), ('val', val_dataloader)):
    loader['dataset'] = dict(
        type='effvit_mm.ImageFolder', data_root=dataset['data_root'], split=name,
        pipeline=loader['dataset']['pipeline'],
    )
del name, loader
"""


@pytest.fixture
def run(tmp_path, capfd, monkeypatch):
    """Train (or test) with overrides; gives the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, options: tuple[str, ...] = (), command=cli.train):
        forget_runs()
        extra = ['--cfg-options', *options] if options else []
        code = command([*map(str, arguments), '--work-dir', 'w', *extra])
        return code, ''.join(capfd.readouterr())

    return call


@pytest.fixture
def data(tmp_path) -> Path:
    return make_folder(tmp_path / 'data', train=3, val=2)


# Classes ------------------------------------------------------------------------------------------


@tries(
    'has num_classes={}; set {}{}',
    ' if the model was trained on these {}; else give the set those of training, in their order '
    '({}.dataset.metainfo.classes)',
)
def test_another_number_of_classes(run, data, tmp_path):
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH)
    code, line = run(config, options=('model.head.num_classes=5',))
    assert code == 2 and said('has num_classes={}; set {}', line)
    remedy = line.strip().rpartition('; set ')[2]
    assert run(config, options=(remedy,))[0] == 0
    # The trained model, on a set that has only two of its classes; and by a config that says five.
    shutil.copy('w/epoch_1.pth', 'trained.pth')
    few = shutil.copytree(data, tmp_path / 'few')
    shutil.rmtree(few / 'val' / 'dots')
    loader = 'test_dataloader.dataset.'
    on_few = (f'{loader}data_root={few}', f'{loader}metainfo.classes=(bars,rings)')
    for options in (on_few, ('model.head.num_classes=5',)):
        code, line = run(config, 'trained.pth', options=options, command=cli.test)
        assert code == 2
        assert said(' if the model was trained on these {}; else give the set those of', line), line
        if options is on_few:
            assert line.strip().endswith(f'({loader}metainfo.classes)')
            instead = (*options, f'{loader}metainfo.classes=(bars,dots,rings)')
        else:
            instead = (line.rpartition('; set ')[2].split()[0],)
        code, line = run(config, 'trained.pth', options=instead, command=cli.test)
        assert code == 0, line


@tries('names no classes: give the number')
def test_a_set_that_names_no_classes(run, data, tmp_path):
    files = sorted((data / 'train').glob('*/*.png'))
    names = sorted({file.parent.name for file in files})
    lines = [f'{f.parent.name}/{f.name} {names.index(f.parent.name)}\n' for f in files]
    (data / 'train.txt').write_text(''.join(f'train/{line}' for line in lines))
    extra = "train_dataloader['dataset'].update(ann_file='train.txt', data_prefix='')\n"
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH + extra)
    code, line = run(config, options=('model.head.num_classes=None',))
    assert code == 2 and said('names no classes: give the number', line), line
    code, line = run(config, options=('model.head.num_classes=3',))
    assert code == 0, line


@tries('; remove it, or set data_checks.allow_empty_classes=True')
def test_a_class_without_an_image(run, data, tmp_path):
    for path in (data / 'train' / 'dots').iterdir():
        path.unlink()
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH)
    code, line = run(config)
    assert code == 2 and '; remove it, or set data_checks.allow_empty_classes=True' in line
    assert run(config, options=('data_checks.allow_empty_classes=True',))[0] == 0
    for split in ('train', 'val'):
        shutil.rmtree(data / split / 'dots')
    code, line = run(config, options=('model.head.num_classes=2',))
    assert code == 0, line


@tries(
    '; remove the folder, or set allow_empty_classes=True in the data set, as in --cfg-options '
    'train_dataloader.dataset.allow_empty_classes=True'
)
def test_a_class_folder_without_an_image(run, data, tmp_path):
    for path in (data / 'train' / 'dots').iterdir():
        path.unlink()
    with pytest.raises(DataError, match='; remove the folder, or set allow_empty_classes=True in'):
        ImageFolder(str(data))
    assert len(ImageFolder(str(data), allow_empty_classes=True)) == 6
    folders = write_config(tmp_path / 'folders.py', data, FOLDERS + ONE_EPOCH)
    code, line = run(folders)
    assert code == 2 and 'train_dataloader.dataset.allow_empty_classes=True' in line
    option = 'train_dataloader.dataset.allow_empty_classes=True'
    code, line = run(folders, options=(option,))
    assert code == 0, line
    shutil.rmtree(data / 'train' / 'dots')
    assert ImageFolder(str(data)).metainfo['classes'] == ('bars', 'rings')


@tries('; take it away, or put a folder of that name with images into {}')
def test_a_class_folder_that_training_does_not_have(data):
    (data / 'val' / 'crosses').mkdir()
    image = next((data / 'val' / 'dots').iterdir())
    shutil.copy(image, data / 'val' / 'crosses')
    with pytest.raises(DataError, match='; take it away, or put a folder of that name with images'):
        ImageFolder(str(data), 'val')
    shutil.copytree(data / 'val' / 'crosses', data / 'train' / 'crosses')
    assert len(ImageFolder(str(data), 'val').metainfo['classes']) == 4
    for split in ('train', 'val'):
        shutil.rmtree(data / split / 'crosses')
    assert len(ImageFolder(str(data), 'val').metainfo['classes']) == 3


@tries('; take it away, or leave such images out by --cfg-options {}')
@pytest.mark.parametrize('extra', ['', FOLDERS], ids=['CustomDataset', 'ImageFolder'])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_an_image_that_is_corrupt(run, data, tmp_path, split, extra):
    broken = next((data / split / 'dots').iterdir())
    broken.write_bytes(broken.read_bytes()[:60])
    config = write_config(tmp_path / 'folders.py', data, extra + ONE_EPOCH)
    code, line = run(config)
    options = line.strip().rpartition(' by --cfg-options ')[2].split()
    assert code == 2 and options[0] == f'{split}_dataloader.dataset.skip_corrupt=True', line
    code, line = run(config, options=tuple(options))
    assert code == 0, line
    broken.unlink()
    code, line = run(config)
    assert code == 0, line


@tries('; name both alike, or take these folders out')
def test_class_folders_that_training_does_not_have(data):
    def make():
        where = {'data_root': str(data), 'data_prefix': 'val'}
        return CustomDataset(**where, classes_from=str(data / 'train'))

    dots = data / 'val' / 'dots'
    other = dots.rename(dots.with_name('points'))
    with pytest.raises(DataError, match='; name both alike, or take these folders out'):
        make()
    away = other.rename(data / 'points')
    assert len(make()) == 4
    away.rename(dots)
    assert len(make()) == 6


@tries(
    '; sort the validation images into one folder for each class, or give ann_file; '
    'for a data set of your own take effvit_mm.ImageFolder'
)
def test_imagenet_as_it_was_downloaded(tmp_path):
    """The archive of the validation images has them all in one folder."""
    classes = ('ant', 'bee')
    images = [f'ILSVRC2012_val_{number:08}.JPEG' for number in (1, 2)]
    picture = cv2.imencode('.jpg', np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for image in images:
        (tmp_path / 'val').mkdir(exist_ok=True)
        (tmp_path / 'val' / image).write_bytes(picture)

    def make(**options):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return ImageNet(
                data_root=str(tmp_path), split='val', metainfo={'classes': classes}, **options
            )

    with pytest.raises(DataError, match='; sort the validation images into one folder for each'):
        make()
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta' / 'val.txt').write_text(''.join(f'{n} {i}\n' for i, n in enumerate(images)))
    assert [make(ann_file='meta/val.txt').get_data_info(i)['gt_label'] for i in (0, 1)] == [0, 1]
    shutil.rmtree(tmp_path / 'meta')  # which mmpretrain takes where it is
    for image, name in zip(images, classes, strict=True):
        (tmp_path / 'val' / name).mkdir()
        (tmp_path / 'val' / image).rename(tmp_path / 'val' / name / image)
    assert len(make()) == 2
    assert len(ImageFolder(str(tmp_path), 'val', train_split='val')) == 2


@tries('; correct data_prefix or the list, or set skip_corrupt=True')
def test_a_list_of_images_that_do_not_exist(data):
    (data / 'list.txt').write_text('bars/0.png 0\ndots/0.png 1\nrings/9.png 2\n')
    where = {'data_root': str(data), 'ann_file': 'list.txt'}
    with pytest.raises(DataError, match='; correct data_prefix or the list, or set skip_corrupt'):
        CustomDataset(**where)
    with pytest.raises(DataError, match='1 of its 3 images'):
        CustomDataset(**where, data_prefix='train')
    assert len(CustomDataset(**where, data_prefix='train', skip_corrupt=True)) == 2
    (data / 'list.txt').write_text('bars/0.png 0\ndots/0.png 1\nrings/1.png 2\n')
    assert len(CustomDataset(**where, data_prefix='train')) == 3


@tries(', and are taken so; leave one line of each')
def test_images_that_a_list_names_twice(data, monkeypatch):
    told = []
    monkeypatch.setattr(classification, 'tell_once', lambda text, *_: told.append(text))
    for lines, count in (('0.png 0\n0.png 0\n', 1), ('0.png 0\n', 0)):
        (data / 'list.txt').write_text(lines)
        told.clear()
        where = {'data_root': str(data), 'ann_file': 'list.txt', 'data_prefix': 'train/bars'}
        CustomDataset(**where)
        assert sum('; leave one line of each' in text for text in told) == count


@tries('; set {}.num_classes={}, or leave it out')
def test_a_metric_of_another_number_of_classes(run, data, tmp_path):
    judge = "val_evaluator = dict(type='SingleLabelMetric', num_classes={})\n"
    config = write_config(tmp_path / 'c.py', data, ONE_EPOCH + judge.format(5))
    code, line = run(config)
    assert code == 2 and said('; set {}.num_classes={}, or leave it out', line), line
    remedy = re.search(r'; set (\S+), or', line)[1]
    assert run(config, options=(remedy,))[0] == 0
    config.write_text(config.read_text().replace(', num_classes=5', ''))
    assert run(config)[0] == 0


# Sample data --------------------------------------------------------------------------------------


@tries(': give another data_root, or delete it')
def test_sample_data_in_a_folder_with_other_things(tmp_path):
    def build(folder):
        (folder / 'made').touch()

    taken = tmp_path / 'taken'
    (taken / 'mine').mkdir(parents=True)
    with pytest.raises(DataError, match=': give another data_root, or delete it'):
        make_once(taken, build)
    assert (make_once(tmp_path / 'other', build) / 'made').exists()
    shutil.rmtree(taken)
    assert (make_once(taken, build) / 'made').exists()


@tries(': delete the folder and it is made anew')
def test_sample_data_of_another_release(tmp_path):
    folder = make_once(tmp_path / 'data', lambda folder: None, version='1')
    with pytest.raises(DataError, match=': delete the folder and it is made anew'):
        make_once(folder, lambda folder: None, version='2')
    shutil.rmtree(folder)
    assert make_once(folder, lambda folder: None, version='2').is_dir()


# Configs ------------------------------------------------------------------------------------------


@tries('; assign the parts themselves, as train_dataloader=dict(...)')
def test_a_name_that_cannot_be_brought_to_the_base(tmp_path):
    (tmp_path / 'base.py').write_text(
        'from torch.nn import ReLU\nact = dict(type=ReLU)\nmodel = dict(type=ReLU, act=act)\n'
    )
    head = 'from mmengine.config import read_base\nwith read_base():\n    from .base import *\n'
    derived = tmp_path / 'derived.py'
    derived.write_text(f'from torch.nn import GELU\n{head}act = dict(type=GELU)\n')
    with pytest.raises(ConfigError, match='; assign the parts themselves, as train_dataloader='):
        load_config(str(derived), [])
    derived.write_text(f'from torch.nn import GELU\n{head}model = dict(act=dict(type=GELU))\n')
    assert load_config(str(derived), []).model.act.type.__name__ == 'GELU'


# Teachers -----------------------------------------------------------------------------------------


@pytest.fixture
def scope():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


@tries('; name a file with checkpoint')
def test_a_teacher_of_which_nothing_is_published(scope, tmp_path):
    small = {'head': {'num_classes': CLASSES}}
    teacher = {'config': str(DIGITS), **small}
    with pytest.raises(ConfigError, match='; name a file with checkpoint'):
        build({**teacher, 'pretrained': True})
    trained = randomised(get_model(str(DIGITS), **small))
    torch.save({'state_dict': trained.state_dict()}, tmp_path / 'a.pth')
    model = build({**teacher, 'checkpoint': str(tmp_path / 'a.pth')})
    model.init_weights()
    for name, value in model.teacher.model.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name])


@tries('mmpretrain has no published weights for it; name a checkpoint')
def test_a_teacher_of_mmpretrain_without_weights(scope, tmp_path):
    teacher = {'mmpretrain': 'hivit-tiny-p16_16xb64_in1k', 'head': {'num_classes': CLASSES}}
    with pytest.raises(ConfigError, match='no published weights for it; name a checkpoint'):
        build({**teacher, 'pretrained': True}).init_weights()
    trained = randomised(get_model(teacher['mmpretrain'], head=teacher['head']))
    torch.save({'state_dict': trained.state_dict()}, tmp_path / 'a.pth')
    model = build({**teacher, 'checkpoint': str(tmp_path / 'a.pth')})
    model.init_weights()
    for name, value in model.teacher.model.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name])


@tries('model.teacher.model={}: not one of effvit_mm.list_models(){}')
def test_a_teacher_of_ours_that_is_misspelt(scope):
    with pytest.raises(ConfigError) as error:
        build({'model': 'pslt_tinny', 'untrained': True})
    assert said('not one of effvit_mm.list_models()', str(error.value))
    meant = re.search(r"did you mean '(\w+)'", str(error.value))[1]
    build({'model': meant, 'untrained': True}).init_weights()
