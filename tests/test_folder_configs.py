"""Configs for one's own folders: ``data_root`` is all that they need, in every layout."""

import json
import re
import shutil
from pathlib import Path

import coco_sets
import pytest
import torch
from coco_sets import NAMES
from mmengine.config import Config
from people import make_people
from programs import load_tool
from remedies import tries
from trainer import CLASSES, forget_runs, make_folder
from yolo_sets import make_yolo

import effvit_mm
from effvit_mm.errors import ConfigError, DataError, MissingDataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.checks import check_config
from effvit_mm.openmm.config.data_root import how_to_find
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.data_checks.class_count import close_heads, open_heads
from effvit_mm.openmm.datasets.classification import list_classes
from effvit_mm.openmm.trained import build_detector, find_classes
from effvit_mm.weights.checkpoint import read_checkpoint

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'pslt'
DETECTORS = ('retinanet', 'mask-rcnn', 'rtmdet')
LAYOUTS = {
    'readme': ('annotations/train.json', 'annotations/val.json', 'images', 'images'),
    'roboflow': ('train/_annotations.coco.json', 'valid/_annotations.coco.json', 'train', 'valid'),
}
QUICK = [f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')]
QUICK += ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'param_scheduler=None']
# Of RetinaNet and Mask R-CNN: 72 x 96 pixels for 480 x 640.
SMALL = ['train_dataloader.dataset.pipeline.2.scale=(96,72)']
SMALL += [f'{split}_dataloader.dataset.pipeline.1.scale=(96,72)' for split in ('val', 'test')]
# What costs time, or finds nothing in a network that has learned nothing.
MODELS = {
    'retinanet': ['model.test_cfg.score_thr=0.0', *SMALL],
    'rtmdet': ['model.test_cfg.score_thr=0.0'],
    'mask-rcnn': [
        'model.train_cfg.rcnn.sampler.num=16',
        'model.train_cfg.rpn_proposal.max_per_img=50',
        'model.test_cfg.rpn.max_per_img=50',
        'model.test_cfg.rcnn.score_thr=0.0',
        'model.test_cfg.rcnn.max_per_img=5',
        *SMALL,
    ],
}


def config_of(name: str) -> str:
    return str(CONFIGS / f'{name}_pslt-tiny_folder.py')


def make_set(root: Path, layout: str) -> Path:
    """Two images to train on and two to validate on, laid out in one of the ways."""
    train, val, train_images, val_images = LAYOUTS[layout]
    data = coco_sets.make_coco(root / 'made', images=2, splits=())
    for file, images in ((train, train_images), (val, val_images)):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(json.dumps(data))
        shutil.copytree(root / 'made' / 'images', root / images, dirs_exist_ok=True)
    shutil.rmtree(root / 'made')
    return root


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('COCO_FOLDER_ROOT', raising=False)
    forget_runs()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('name', DETECTORS)
def test_the_layout_of_a_folder_is_found(name, layout):
    root = make_set(Path('set'), layout)
    cfg = load_config(config_of(name), [f'data_root={root}'])
    train, val, train_images, val_images = LAYOUTS[layout]
    assert (cfg.train_dataloader.dataset.ann_file, cfg.val_dataloader.dataset.ann_file) == (
        train,
        val,
    )
    for split, images in (('train', train_images), ('val', val_images), ('test', val_images)):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert (dataset.data_prefix.img, dataset.classes_from) == (images, train)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert Path(evaluator.ann_file) == root / val


def test_names_that_were_given_are_kept():
    root = make_set(Path('set'), 'roboflow')
    (root / 'test').mkdir()
    shutil.copy(root / LAYOUTS['roboflow'][1], root / 'test')
    mine = 'test/_annotations.coco.json'
    options = [f'data_root={root}', 'test_dataloader.dataset.ann_file=mine.json']
    cfg = load_config(config_of('retinanet'), options)
    assert cfg.test_dataloader.dataset.ann_file == 'mine.json'
    assert Path(cfg.test_evaluator.ann_file) == root / 'mine.json'
    options = [f'data_root={root}', f'train_annotations={mine}', 'train_images=test']
    cfg = load_config(config_of('retinanet'), options)
    assert cfg.train_dataloader.dataset.ann_file == mine
    assert cfg.val_dataloader.dataset.ann_file == 'annotations/val.json'


@pytest.mark.parametrize('layout', LAYOUTS)
def test_what_the_readme_says_works_with_data_root_alone(layout, capsys):
    """Check, train, test; then detect without the data set."""
    root = make_set(Path('set'), layout)
    config, options = config_of('retinanet'), [f'data_root={root}', *MODELS['retinanet'], *QUICK]
    assert (
        load_tool('analysis_tools/check_dataset').main(
            [config, '--cfg-options', f'data_root={root}']
        )
        == 0
    )
    assert cli.train([config, '--work-dir', 'work', '--cfg-options', *options]) == 0
    content = read_checkpoint('work/epoch_1.pth')
    assert content['meta']['dataset_meta']['classes'] == NAMES
    assert Config.fromfile('work/retinanet_pslt-tiny_folder.py').model.bbox_head.num_classes == 3
    history = content['message_hub']['runtime_info']['effvit_mm/history']
    assert 'coco/bbox_mAP' in history[-1]['metrics']
    forget_runs()
    arguments = [config, 'work/epoch_1.pth', '--work-dir', 'test', '--out', 'p.json']
    assert cli.test([*arguments, '--cfg-options', *options]) == 0
    assert len(json.loads(Path('p.json').read_text())) == 2
    image = root / LAYOUTS[layout][3] / '0.png'
    shutil.copy(image, 'photo.png')
    shutil.rmtree(root)
    detector = effvit_mm.Detector(config, 'work/epoch_1.pth', cfg_options=SMALL[1:])
    assert detector.classes == NAMES
    assert detector('photo.png', score_thr=0.0)[0]['size'] == (36, 48)


@pytest.mark.parametrize('name', ['mask-rcnn', 'rtmdet'])
def test_the_other_detectors_train_and_validate(name):
    root = make_set(Path('set'), 'roboflow')
    options = [f'data_root={root}', *MODELS[name], *QUICK]
    assert cli.train([config_of(name), '--work-dir', 'work', '--cfg-options', *options]) == 0
    content = read_checkpoint('work/epoch_1.pth')
    metrics = content['message_hub']['runtime_info']['effvit_mm/history'][-1]['metrics']
    assert {'coco/bbox_mAP'} | ({'coco/segm_mAP'} if name == 'mask-rcnn' else set()) <= set(metrics)
    model = build_detector(load_config(config_of(name), []), name, 'work/epoch_1.pth')
    head = model.roi_head.mask_head if name == 'mask-rcnn' else model.bbox_head
    assert head.num_classes == 3


def test_a_number_that_was_given_is_not_counted(capsys):
    root = make_set(Path('set'), 'readme')
    options = [f'data_root={root}', *SMALL, *QUICK, 'model.bbox_head.num_classes=5']
    assert cli.train([config_of('retinanet'), '--cfg-options', *options]) == 2
    error = capsys.readouterr().err
    assert 'has 3 classes' in error and 'set model.bbox_head.num_classes=3' in error


def test_a_missing_annotation_file_is_named(capsys):
    assert cli.train([config_of('mask-rcnn'), '--cfg-options', 'data_root=nowhere']) == 2
    assert 'nowhere/annotations/train.json: No such file' in capsys.readouterr().err


@tries(': give --cfg-options {}.num_classes=N')
def test_classes_that_nothing_says_are_asked_for(capsys):
    tool, config = load_tool('analysis_tools/get_flops'), config_of('retinanet')
    arguments = [config, '--shape', '64', '--cfg-options', 'data_root=nowhere']
    assert tool.main(arguments) == 2
    error = capsys.readouterr().err
    remedy = 'model.bbox_head.num_classes=N'
    assert remedy in error and 'nowhere/annotations/train.json' in error
    assert tool.main([*arguments, remedy.replace('N', '7')]) == 0
    root = make_set(Path('set'), 'readme')
    assert tool.main([*arguments[:-1], f'data_root={root}']) == 0


SETS = {
    'pslt-tiny_folder.py': ('IMAGE_FOLDER_ROOT', '/train does not exist; expected'),
    'retinanet_pslt-tiny_folder.py': ('COCO_FOLDER_ROOT', 'annotations/train.json: No such file'),
    'retinanet_pslt-tiny_yolo.py': ('YOLO_FOLDER_ROOT', 'data.yaml: No such file or directory;'),
    'reid_pslt-tiny_folder.py': ('REID_FOLDER_ROOT', 'bounding_box_train does not exist; expected'),
}


def make_any(kind: str) -> Path:
    """A set of the kind that a variable is for."""
    if kind == 'COCO_FOLDER_ROOT':
        return make_set(Path('set'), 'readme')
    if kind == 'REID_FOLDER_ROOT':
        return make_people(Path('set'), train=16)
    (make_yolo if kind == 'YOLO_FOLDER_ROOT' else make_folder)(Path('set'))
    return Path('set')


@tries('set the environment variable {}', 'give --cfg-options data_root=/path')
@pytest.mark.parametrize('name', SETS)
def test_a_root_that_is_not_there(name, capsys, monkeypatch):
    (variable, what), config = SETS[name], str(CONFIGS / name)
    monkeypatch.delenv(variable, raising=False)
    remedy = f'; set the environment variable {variable} or give --cfg-options data_root=/path\n'
    for value in (None, str(Path('empty').absolute())):
        if value:
            monkeypatch.setenv(variable, value)
        forget_runs()
        assert cli.train([config, '--work-dir', 'w']) == 2
        error = capsys.readouterr().err
        assert what in error and error.endswith(remedy) and (value or 'data/') in error, error
        told = 'data_root/{train,valid}/_annotations.coco.json' in error
        assert told == name.startswith('retinanet_pslt-tiny_folder')
    check = load_tool('analysis_tools/check_dataset').main
    assert check([config, '--splits', 'train']) in (1, 2)
    assert remedy in ''.join(capsys.readouterr())
    root = make_any(variable)
    assert check([config, '--splits', 'train', '--cfg-options', f'data_root={root}']) == 0
    monkeypatch.setenv(variable, str(root))
    assert check([config, '--splits', 'train']) == 0
    # Where the command line has said it, the variable has no say.
    forget_runs()
    assert cli.train([config, '--work-dir', 'w', '--cfg-options', 'data_root=other']) == 2
    error = capsys.readouterr().err
    assert 'other' in error and 'environment' not in error and '/path' not in error, error


@tries('; did you mean data_root={}?')
def test_a_folder_too_deep(tmp_path, capsys):
    make_folder(tmp_path / 'data')
    for part in ('train', 'val'):
        forget_runs()
        root = tmp_path / 'data' / part
        arguments = [str(CONFIGS / 'pslt-tiny_folder.py'), '--work-dir', 'w', '--cfg-options']
        assert cli.train([*arguments, f'data_root={root}', *QUICK]) == 2
        line = capsys.readouterr().err.strip()
        assert f"did you mean data_root='{tmp_path / 'data'}'?" in line and '\n' not in line
    meant = re.search(r"did you mean data_root='([^']+)'", line)[1]
    assert load_config(arguments[0], [f'data_root={meant}', *QUICK]).data_root == meant
    assert len(list_classes(Path(meant) / 'val')[0]) == len(CLASSES)
    forget_runs()
    assert cli.train([*arguments, 'data_root=~/none', *QUICK]) == 2
    line = capsys.readouterr().err
    assert "dataset.data_root='" in line and '/none/train' in line


@pytest.mark.parametrize(
    ('given', 'meant'),
    [
        ('pslt-tiny_folder.py', 'configs/pslt/pslt-tiny_folder.py'),
        ('pslt-tiny_folder', 'configs/pslt/pslt-tiny_folder.py'),
        ('reid_crossvit-tiny_folder', 'configs/crossvit/reid_crossvit-tiny_folder.py'),
        ('configs/pslt/pslt-tiny_foldr.py', 'configs/pslt/pslt-tiny_folder.py'),
        ('mine/configs/pslt/pslt-tiny_foldr.py', 'configs/pslt/pslt-tiny_folder.py'),
    ],
)
def test_a_config_by_its_name(given, meant, monkeypatch):
    monkeypatch.chdir(CONFIGS.parents[1])
    with pytest.raises(ConfigError, match=rf"no such file; did you mean '.*{re.escape(meant)}'\?$"):
        load_config(given, [])
    load_config(meant, [])


def test_class_folders_without_train_and_val(tmp_path, capsys):
    make_folder(tmp_path / 'data')
    flat = tmp_path / 'flat'
    (tmp_path / 'data' / 'train').rename(flat)
    shutil.rmtree(tmp_path / 'data')
    arguments = [str(CONFIGS / 'pslt-tiny_folder.py'), '--work-dir', 'w', '--cfg-options']
    assert cli.train([*arguments, f'data_root={flat}', *QUICK]) == 2
    line = capsys.readouterr().err
    assert f'folders that {flat} has itself belong into train/ and val/ in it' in line


@tries('; {}: give the one of this set, as split={}, or rename it', 'give --splits test to see it')
def test_splits_of_other_names(tmp_path, capsys):
    root = make_folder(tmp_path / 'data', 1, 1)
    (root / 'val').rename(root / 'validation')
    arguments = [str(CONFIGS / 'pslt-tiny_folder.py'), '--work-dir', 'w', '--cfg-options']
    check = load_tool('analysis_tools/check_dataset').main
    assert check([*arguments[:1], '--cfg-options', f'data_root={root}']) == 1
    said = capsys.readouterr().out
    assert f'/val/<class>/*.jpg; {root} has train, validation: give' in said
    split = re.search(r"as split='(\w+)'", said)[1]
    given = f'val_dataloader.dataset.split={split}'
    assert check([*arguments[:1], '--cfg-options', f'data_root={root}', given]) == 0
    said = capsys.readouterr().out
    assert 'test_dataloader.dataset is another set than val_dataloader.dataset' in said
    flag = re.search(r'(--splits) (test) ', said).groups()
    assert check([*arguments[:1], *flag, '--cfg-options', f'data_root={root}', given]) == 1
    both = [given, given.replace('val_', 'test_')]
    assert check([*arguments[:1], '--cfg-options', f'data_root={root}', *both]) == 0
    assert 'another set' not in capsys.readouterr().out.rpartition('rename it')[2]
    assert cli.train([*arguments, f'data_root={root}', *QUICK]) == 2
    (root / 'validation').rename(root / 'val')
    assert check([*arguments[:1], '--cfg-options', f'data_root={root}']) == 0


def test_a_checkpoint_in_the_place_of_the_config(tmp_path):
    for name in ('a.pth', 'a.safetensors'):
        (tmp_path / name).write_bytes(b'')
        with pytest.raises(ConfigError, match='this is a checkpoint; the config comes before it'):
            load_config(str(tmp_path / name), [])


def test_the_root_of_a_second_set_has_a_variable_of_its_own(capsys, monkeypatch):
    monkeypatch.delenv('MSMT17_ROOT', raising=False)
    cfg = load_config(str(CONFIGS / 'reid_pslt-tiny_market1501-msmt17.py'), [])
    error = MissingDataError(f'data folder {Path("data/msmt17").absolute()}/train does not exist')
    assert how_to_find(cfg, error) == '; set the environment variable MSMT17_ROOT'
    elsewhere = MissingDataError('data folder /x/data/msmt17_v2 does not exist')
    assert how_to_find(cfg, elsewhere) == how_to_find(cfg, DataError(str(error))) == ''
    assert how_to_find(None, error) == ''


def test_open_heads_are_found_wherever_a_model_has_them():
    model = {
        'head': {'num_classes': None},
        'roi_head': {'bbox_head': [{'num_classes': None}, {'num_classes': 4}]},
        'bbox_head': {'in_channels': 3},
    }
    keys = ['model.head', 'model.roi_head.bbox_head.0']
    assert list(open_heads(model)) == keys
    wrapped = {'type': 'TTA', 'module': model}
    assert list(open_heads(wrapped)) == [k.replace('model', 'model.module') for k in keys]
    close_heads(wrapped, 6)
    assert open_heads(model) == {} and model['roi_head']['bbox_head'][0]['num_classes'] == 6
    assert model['roi_head']['bbox_head'][1]['num_classes'] == 4
    assert 'num_classes' not in model['bbox_head']


def test_class_folders_are_counted_too():
    """And what the training writes down works in mmpretrain's own inferencer."""
    from mmpretrain import ImageClassificationInferencer

    root = make_folder(Path('set'), train=2, val=1)
    config = str(CONFIGS / 'pslt-tiny_folder.py')
    sizes = ['train_dataloader.dataset.pipeline.1.scale=32']
    sizes += [
        f'{split}_dataloader.dataset.pipeline.{step}=32'
        for split in ('val', 'test')
        for step in ('1.scale', '2.crop_size')
    ]
    options = ['--cfg-options', f'data_root={root}', *sizes, *QUICK]
    assert cli.train([config, '--work-dir', 'work', *options]) == 0
    assert Config.fromfile('work/pslt-tiny_folder.py').model.head.num_classes == 3
    forget_runs()
    assert cli.test([config, 'work/epoch_1.pth', '--work-dir', 'test', '--tta', *options]) == 0
    file = str(root / 'val' / 'dots' / '0.png')
    ask = ImageClassificationInferencer('work/pslt-tiny_folder.py', 'work/epoch_1.pth', 'cpu')
    (answer,) = ask(file)
    assert answer['pred_class'] in CLASSES and len(answer['pred_scores']) == 3


def test_a_checkpoint_without_names_leaves_it_to_the_data_set():
    root = make_set(Path('set'), 'roboflow')
    torch.save({'state_dict': {}}, 'bare.pth')
    cfg = load_config(config_of('retinanet'), [f'data_root={root}'])
    find_classes(cfg, 'c', 'bare.pth')
    assert cfg.model.bbox_head.num_classes == 3
    with pytest.raises(ConfigError, match=r'bbox_head\.num_classes=N'):
        find_classes(load_config(config_of('retinanet'), ['data_root=nowhere']), 'c', 'bare.pth')


@pytest.mark.parametrize(
    ('kind', 'name', 'value', 'taken'),
    [
        ('ImageFolder', 'data_prefix', 'train', 'data_root and split'),
        ('ImageFolder', 'ann_file', 'train.txt', 'data_root and split'),
        ('Digits', 'data_prefix', 'train', 'data_root and split'),
        ('FashionMNIST', 'download', True, 'files that are there'),
    ],
)
def test_arguments_that_a_set_makes_itself_are_refused(kind, name, value, taken, capfd):
    """mmpretrain's sets of class folders take some that ours do not."""
    Path('own.py').write_text(
        f"""
_base_ = {str(CONFIGS / 'pslt-tiny_folder.py')!r}
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='effvit_mm.{kind}', data_root='set', {name}={value!r},
        pipeline=_base_.train_pipeline,
    )
)
"""
    )
    assert cli.train(['own.py', '--work-dir', 'work']) == 2
    assert capfd.readouterr().err == (
        f'error: train_dataloader.dataset.{name}={value!r}: {kind} takes {taken}, not {name}\n'
    )


def test_the_example_of_a_config_of_one_s_own_is_one():
    """What docs/add_dataset.md writes is read and checked as a training reads it."""
    text = (CONFIGS.parents[1] / 'docs' / 'add_dataset.md').read_text()
    own = re.search(r'write_text\("""\n(.*?)"""', text, re.DOTALL)[1]
    Path('my_folder.py').write_text(own.replace('configs/', f'{CONFIGS.parent}/'))
    cfg = load_config('my_folder.py', [])
    check_config(cfg, training=True)
    check_config(cfg, training=False)
