"""Every fault of a user ends at once with one line that names it, and with exit code 2."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import stat
from pathlib import Path

import pytest
import torch
from remedies import tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.errors import ConfigError, DataError, MissingDataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.building import naming_files
from effvit_mm.openmm.config.preparing import prepare_training
from effvit_mm.openmm.engine.runner import build_runner

# Overrides of the config that works -> what the one line must say.
OVERRIDES = {
    'train_cfg.max_epoch=5': r"train_cfg\.max_epoch=5: .* did you mean 'max_epochs'",
    'optim_wrapper.optimizer.lrr=0.1': r"optim_wrapper\.optimizer\.lrr=0\.1: AdamW .* mean 'lr'",
    'optim_wraper.optimizer.lr=0.1': r"optim_wraper.* did you mean 'optim_wrapper'",
    'train_dataloader.batchsize=4': r"train_dataloader\.batchsize.* did you mean 'batch_size'",
    'default_hooks.logger.intervall=4': r"default_hooks\.logger\.intervall.* mean 'interval'",
    'model.backbone.dept=18': r"model\.backbone\.dept=18: ResNet .* did you mean 'depth'",
    'model.backbone.type=ResNett': r"model\.backbone\.type='ResNett': .* did you mean 'ResNet'",
    'model.backbone.depth=19': r'model\.backbone \(type ResNet\): .*19',
    'model.backbone.out_indices="(7,)"': r'model\.backbone \(type ResNet\): .*out_indices',
    'model.head=3': r'model\.head=3: \w+ takes a dict or a list of dicts there',
    'model=3': r'model: a dict with a type is needed, not 3',
    'train_dataloader.batch_size=0': r'train_dataloader\.batch_size=0: .* at least 1',
    'train_dataloader.batch_size=many': r"train_dataloader\.batch_size='many': a whole number",
    'train_dataloader.num_workers=-1': r'train_dataloader\.num_workers=-1: .* at least 0',
    'train_dataloader.sampler.type=Default': r"sampler\.type='Default': .* 'DefaultSampler'",
    'optim_wrapper.optimizer.lr=-0.1': r'optimizer\.lr=-0\.1: a number .*above 0',
    'optim_wrapper.optimizer.lr=fast': r"optimizer\.lr='fast': a number",
    'optim_wrapper.optimizer.type=AdamX': r"optimizer\.type='AdamX': .* did you mean 'Adam",
    'optim_wrapper.type=AmpWrapper': r"optim_wrapper\.type='AmpWrapper'.* no such",
    'train_cfg.max_epochs=0': r'train_cfg\.max_epochs=0: a whole number of at least 1',
    'train_cfg.max_epochs=two': r"train_cfg\.max_epochs='two': a whole number",
    'train_cfg.val_interval=0': r'train_cfg\.val_interval=0',
    'train_cfg.val_begin=9': r'train_cfg\.val_begin=9: the training ends after \d+; set it to',
    'val_evaluator=None': r'val_evaluator is missing, though val_dataloader is set',
    'train_cfg=None': r'train_cfg is missing, though train_dataloader is set',
    'train_dataloader.dataset.data_prefix=nowhere': r'data folder .*nowhere does not exist',
    'train_dataloader.dataset.type=CustomDatset': r"CustomDatset.* did you mean 'CustomDataset'",
    'train_dataloader.dataset.pipeline.0.type=LoadImage_': r"pipeline\[0\]\.type='LoadImage_'",
    'train_dataloader.dataset.pipeline.1.probb=1': r'pipeline\[1\]\.probb=1: RandomFlip',
    'model.head.num_classes=5': r'train_dataloader\.dataset has 3 classes .*num_classes=5',
    'default_hooks.checkpoint.save_best=bbox_mAP': r"save_best='bbox_mAP'.*accuracy/",
    'default_hooks.checkpoint.save_best=accuracy/top7': r"save_best='accuracy/top7'.*accuracy/top1",
    'param_scheduler.0.type=LinearLRs': r"param_scheduler\[0\]\.type='LinearLRs'.* 'LinearLR'",
    'param_scheduler.1.T_maxx=2': r"param_scheduler\[1\]\.T_maxx=2: .* did you mean 'T_max'",
    'param_scheduler.0.start_factor=7': r'param_scheduler\[0\] \(type LinearLR\): .*between 0',
    'optim_wrapper.clip_grad=3': r'optim_wrapper\.clip_grad=3: \w+ takes a dict',
    'optim_wrapper.optimizer.betas=3': r'optim_wrapper\.optimizer \(type AdamW\): ',
    'custom_hooks.0.momentum=7': r'custom_hooks: momentum must be in range',
    'load_from=nowhere.pth': r"load_from='nowhere\.pth': checkpoint nowhere\.pth: no such file",
    'train_dataloader.dataset.data_prefix=tain': (
        r"train_dataloader\.dataset\.data_prefix='tain': data folder /.*/tain does not exist"
    ),
    'train_dataloader.dataset.ann_file=tain.txt': (
        r"train_dataloader\.dataset\.ann_file='tain\.txt': annotation file .*/tain\.txt: No such"
    ),
    'val_dataloader.dataset.data_root=../nowhere': (
        r"val_dataloader\.dataset\.data_root='\.\./nowhere': data folder .*nowhere/val does not"
    ),
    'randomness.seed=x': r"randomness\.seed='x': a whole number",
    'custom_hooks.0.type=EMAHok': r"custom_hooks\[0\]\.type='EMAHok'.* 'EMAHook'",
    'default_scope=mmpretrian': r"default_scope='mmpretrian': no such package; .* 'mmpretrain'",
    'no_such_key=1': r'--cfg-options no_such_key: no such key',
    'runner_type=effvit_mm.Runer': r"runner_type='effvit_mm\.Runer': no such runner",
    'model.backbone': r'--cfg-options model\.backbone: KEY=VALUE is needed',
    'train_cfg.max_epochs=[1,2': r'brackets do not match',
}


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp('data'), train=3, val=2)


@pytest.fixture
def config(tmp_path, data) -> Path:
    return write_config(tmp_path / 'bad.py', data, 'train_cfg.update(max_epochs=1)\n')


@pytest.fixture
def fails(capfd, tmp_path, monkeypatch):
    """Run train.py (or test.py) in this process; give the one line of its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('EFFVIT_MM_DEBUG', raising=False)

    def call(*arguments: object, command=cli.train) -> str:
        forget_runs()
        arguments = [str(argument) for argument in arguments]
        code = command([*arguments, *(() if '--work-dir' in arguments else ('--work-dir', 'w'))])
        err = capfd.readouterr().err
        assert code == 2, err
        assert re.fullmatch(r'error: [^\n]+\n', err), err
        assert 'Traceback' not in err
        assert not list(tmp_path.glob('w/epoch_*.pth'))
        return err

    return call


@tries('; did you mean {}?')
@pytest.mark.parametrize('override', OVERRIDES)
def test_override(fails, config, override):
    option = override.replace('"', '')
    err = fails(config, '--cfg-options', option)
    assert re.search(OVERRIDES[override], err), err
    if meant := re.search(r"did you mean '(\w+)'", err):
        words = re.split(r'([.=])', option)
        near = difflib.get_close_matches(meant[1], words, n=1, cutoff=0)[0]
        works(config, ''.join(meant[1] if word == near else word for word in words))


def test_pretrained_weights_that_are_not_there(fails, config):
    key = 'model.backbone.init_cfg'
    err = fails(config, '--cfg-options', f'{key}.type=Pretrained', f'{key}.checkpoint=x.pth')
    assert f"error: {key}.checkpoint='x.pth': checkpoint x.pth: no such file" in err


def test_the_key_of_what_is_missing(tmp_path):
    """The root before what lies below it; none twice, and none for what is there."""
    (tmp_path / 'here').mkdir()
    cfg = {'data': {'data_prefix': 'a', 'data_root': './gone', 'name': 'a', 'ann_file': ''}}
    for text, told in (
        (f'{tmp_path}/gone/a does not exist', "data.data_root='./gone': "),
        (f'{tmp_path}/gone2/b: no such file', ''),
        (f'{tmp_path}/gone/a is broken', ''),
        ("data.data_root='./gone': gone/a does not exist", ''),
    ):
        with pytest.raises(MissingDataError) as error, naming_files(cfg, 'data'):
            raise MissingDataError(text)
        assert str(error.value) == told + text
    cfg['data']['data_root'] = str(tmp_path / 'here')
    with pytest.raises(DataError, match=r"^data\.data_prefix='a': "), naming_files(cfg, 'data'):
        raise DataError(f'folder {tmp_path}/here/a does not exist; expected are others')


@tries('; did you mean {}?')
@pytest.mark.parametrize(
    ('key', 'place'),
    [
        ('max_epochs', 'train_cfg.max_epochs'),
        ('optimizer.lr', 'optim_wrapper.optimizer.lr'),
        ('start_factor', 'param_scheduler.0.start_factor'),
    ],
)
def test_a_key_without_those_above_it(fails, config, key, place):
    err = fails(config, '--cfg-options', f'{key}=1')
    assert f"{key}: no such key; did you mean '{place}'?" in err, err
    works(config, f'{place}=1')


def test_a_key_that_stands_in_several_places_is_not_guessed(fails, config):
    assert fails(config, '--cfg-options', 'batch_size=1').endswith(
        "batch_size: no such key; did you mean 'train_dataloader.batch_size', "
        "'val_dataloader.batch_size' or 'test_dataloader.batch_size'?\n"
    )


@tries('; did you mean {}?')
def test_a_misspelt_flag(fails, config):
    for wrong in (['--sed', '1'], ['--sed=1'], ['--launchr', 'none', '--sed', '1']):
        flag = '--launcher' if len(wrong) > 2 else '--seed'
        assert f"{' '.join(wrong)}; did you mean '{flag}'? (--help" in fails(config, *wrong)
    assert cli.train_parser().parse_args([str(config), '--seed', '1', '--launcher', 'none'])
    assert 'did you mean' not in fails(config, '--epochs', '3')
    assert 'did you mean' not in fails(config, 'another')


def test_a_misspelt_flag_of_a_tool_with_commands():
    parser = cli.Parser(prog='tool')
    commands = parser.add_subparsers(dest='command', required=True)
    for name, flag in (('draw', '--pictures'), ('write', '--file')):
        commands.add_parser(name).add_argument(flag)
    with pytest.raises(ConfigError, match=r"--picture-dir; did you mean '--pictures'\?"):
        parser.parse_args(['draw', '--picture-dir'])
    with pytest.raises(ConfigError, match=r'--picture-dir \(--help'):
        parser.parse_args(['write', '--picture-dir'])


def works(config: Path, *options: str) -> None:
    """Complete and check the config, and build all that a training needs at once."""
    forget_runs()
    arguments = [str(config), '--work-dir', 'works', '--cfg-options', 'work_dir=works', *options]
    build_runner(prepare_training(cli.train_parser().parse_args(arguments)))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = dict(', r'broken\.py, line 1: .* never closed'),
        (
            "custom_imports = dict(imports=['no_such_module_x'], allow_failed_imports=False)",
            r'broken\.py: custom_imports: ImportError: .*no_such_module_x',
        ),
        ("_base_ = 'gone.py'", r'broken\.py: its _base_ .*gone\.py is not there'),
        ('x = 1', r'model: a dict with a type is needed, not None'),
        (
            "default_scope = 'mmpretrain'\nmodel = dict(type='ImageClassifier')",
            r'train_dataloader is missing: .* to train',
        ),
    ],
)
def test_config_file(fails, tmp_path, text, message):
    path = tmp_path / 'broken.py'
    path.write_text(text)
    err = fails(path)
    assert re.search(message, err), err


@tries('; did you mean {}?')
def test_misspelt_key_in_the_file(fails, tmp_path, data):
    path = write_config(tmp_path / 'typo.py', data, 'parm_scheduler = []\ndel param_scheduler\n')
    assert "parm_scheduler: no such key; did you mean 'param_scheduler'" in fails(path)
    path.write_text(path.read_text().replace('parm_scheduler = []\ndel param_scheduler\n', ''))
    works(path)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--launcher', 'slrum'], r"--launcher: invalid choice: 'slrum'.*slurm"),
        (['--seed', 'x'], r"--seed: invalid int value: 'x'"),
        (['--sed', '1'], r"unrecognized arguments: --sed 1; did you mean '--seed'"),
        (['--resume', 'gone.pth'], r'checkpoint gone\.pth: no such file'),
    ],
)
def test_argument(fails, config, arguments, message):
    err = fails(config, *arguments)
    assert re.search(message, err), err


@tries('; give keys of the config behind --cfg-options: {}=VALUE ...')
@pytest.mark.parametrize(
    'arguments', [['--lr', '0.1'], ['--epochs', '5'], ['train_cfg.max_epochs=1'], ['epoch_1.pth']]
)
def test_a_key_that_is_given_as_a_flag(fails, config, arguments):
    key = cli.KEYS.get(arguments[0], 'KEY')
    text = f'unrecognized arguments: {" ".join(arguments)}; give keys of the config behind '
    assert text + f'--cfg-options: {key}=VALUE ...' in fails(config, *arguments)
    works(config, 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.1')


def test_a_missing_checkpoint_names_those_that_are_there(fails, config, tmp_path):
    folder = tmp_path / 'run'
    names = [f'epoch_{number}.pth' for number in (11, 2, 1, 10)]
    text = re.escape(f'checkpoint {folder}/epoch_5.pth: no such file')
    for run in (
        lambda: fails(config, '--resume', folder / 'epoch_5.pth'),
        lambda: fails(config, folder / 'epoch_5.pth', command=cli.test),
    ):
        shutil.rmtree(folder, ignore_errors=True)
        assert re.search(rf'{text}; there is no folder {folder} either\n', run())
        folder.mkdir()
        (folder / 'log.json').touch()
        assert re.search(rf'{text}\n', run())
        for age, name in enumerate(names):
            (folder / name).touch()
            os.utime(folder / name, (0, 1000 - age))
        assert re.search(rf'{text}; the newest in its folder: {", ".join(names[:3])}\n', run())


def test_missing_config(fails):
    assert 'config gone.py: no such file' in fails('gone.py')


@pytest.mark.parametrize(
    'near', ['configs/pslt/pslt-tiny_foldr.py', 'configs/pslt/pslt-tiny_folder', 'small.p']
)
def test_a_config_that_is_misspelt(fails, tmp_path, config, near):
    """In the installed package's folder, in that of a checkout, and in any other."""
    meant = 'small.py' if near == 'small.p' else 'configs/pslt/pslt-tiny_folder.py'
    (tmp_path / 'small.py').write_text(config.read_text())
    if near.startswith('configs'):
        shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    assert f'config {near}: no such file; did you mean {meant!r}?' in fails(near)
    err = fails(tmp_path / 'smal.py')
    assert f"smal.py: no such file; did you mean '{tmp_path / 'small.py'}'?" in err


def test_no_config_at_all(fails):
    assert 'required: config' in fails()


def test_data_root_reaches_every_loader(fails):
    """One override of a shipped config, and the folder it names is the one that is missed."""
    config = ROOT / 'configs' / 'pslt' / 'pslt-tiny_folder.py'
    assert '/absent/train does not exist' in fails(config, '--cfg-options', 'data_root=/absent')


@tries('the config has no auto_scale_lr=dict(base_batch_size=...)')
def test_auto_scale_lr_without_base(fails, config):
    options = ('--auto-scale-lr', '--cfg-options', 'auto_scale_lr=None')
    assert '--auto-scale-lr: the config has no' in fails(config, *options)
    arguments = [str(config), '--auto-scale-lr', '--cfg-options', 'auto_scale_lr.base_batch_size=4']
    forget_runs()
    assert cli.train([*arguments, '--work-dir', 'scaled']) == 0
    groups = torch.load('scaled/epoch_1.pth', weights_only=False)['optimizer']['param_groups']
    assert groups[0]['initial_lr'] == pytest.approx(2e-3)


def test_work_dir_is_a_file(fails, config, tmp_path):
    (tmp_path / 'file').write_text('')
    said = fails(config, '--work-dir', tmp_path / 'file')
    assert f'work_dir: {tmp_path / "file"} is a file, where a folder is needed' in said


def test_work_dir_is_read_only(fails, config, tmp_path):
    folder = tmp_path / 'locked'
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() == 0:  # to whom no folder is locked but the kernel's
        folder = Path('/proc')
    assert 'work_dir: the folder' in fails(config, '--work-dir', folder / 'inner')


def test_class_without_images(fails, tmp_path):
    root = make_folder(tmp_path / 'data', train=2, val=1)
    for path in (root / 'train' / 'dots').iterdir():
        path.unlink()
    err = fails(write_config(tmp_path / 'empty.py', root))
    assert re.search(r'no image of 1 of 3 classes \(dots\).*allow_empty_classes=True', err)


def test_no_images_at_all(fails, tmp_path):
    root = make_folder(tmp_path / 'data', train=0, val=1)
    err = fails(write_config(tmp_path / 'e.py', root))
    assert re.search(r'data/train has no images; read are files that end in \.avif', err), err


def test_label_out_of_range(fails, tmp_path, data):
    names = sorted((data / 'train' / 'dots').iterdir())
    (tmp_path / 'labels.txt').write_text(''.join(f'dots/{path.name} 9\n' for path in names))
    err = fails(write_config(
        tmp_path / 'labels.py', data,
        f"train_dataloader['dataset'].update(ann_file={str(tmp_path / 'labels.txt')!r})\n"
        "data_checks = dict(allow_empty_classes=True)\n",
    ))  # fmt: skip
    assert re.search(r'label 9 of .*dots.*labels go from 0 to 2', err), err


def test_image_too_small_for_the_network(fails, tmp_path, data):
    err = fails(write_config(
        tmp_path / 'small.py', data,
        "model['backbone'] = dict(type='effvit_mm.PSLT', arch='tiny')\n"
        "model['head'].update(in_channels=384)\n"
        "train_dataloader['dataset']['pipeline'][2].update(crop_size=16)\n",
    ))  # fmt: skip
    assert re.search(r'PSLT takes images of \d+ pixels or more on each side, not 16x16', err), err


def test_variant_misspelt(fails, tmp_path, data):
    err = fails(write_config(
        tmp_path / 'arch.py', data,
        "model['backbone'] = dict(type='effvit_mm.PSLT', arch='tinny')\n",
    ))  # fmt: skip
    assert re.search(r"model\.backbone \(type effvit_mm.PSLT\): arch='tinny'.*tiny", err), err


def test_nan_loss_names_the_images(fails, config):
    options = ('optim_wrapper.optimizer.lr=1e6', 'train_cfg.max_epochs=9', 'param_scheduler=None')
    err = fails(config, '--cfg-options', *options, 'default_hooks.checkpoint.interval=99')
    assert re.search(r'the loss became (nan|inf).*\.png', err), err


def test_disk_full_at_a_checkpoint(fails, config, monkeypatch):
    import mmengine.runner.runner as module

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(module, 'save_checkpoint', full)
    assert re.search(r'epoch_1\.pth cannot be written: No space left', fails(config))


# Checkpoints --------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def trained(tmp_path_factory, data) -> Path:
    """The work folder of a finished training."""
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder / 'trained.py', data, 'train_cfg.update(max_epochs=1)\n')
    assert cli.train([str(config), '--work-dir', str(folder / 'work')]) == 0
    return folder / 'work'


def test_truncated_checkpoint(fails, config, trained, tmp_path):
    content = (trained / 'epoch_1.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[: len(content) // 2])
    for arguments in (['--resume', 'cut.pth'], ['--cfg-options', 'load_from=cut.pth']):
        assert 'checkpoint cut.pth cannot be read' in fails(config, *arguments)
    assert 'checkpoint cut.pth cannot be read' in fails(config, 'cut.pth', command=cli.test)


def test_resume_from_weights_only(fails, config, trained):
    best = next(trained.glob('best_*.pth'))
    err = fails(config, '--resume', best)
    assert re.search(r'cannot be resumed: it has no optimizer.*load_from=', err)


def test_resume_from_another_model(fails, tmp_path, data, trained):
    config = write_config(tmp_path / 'other.py', data, "model['head'].update(mid_channels=[16])\n")
    assert 'another model' in fails(config, '--resume', trained / 'epoch_1.pth')


def test_another_number_of_classes(fails, tmp_path, trained, data):
    root = make_folder(tmp_path / 'four', train=2, val=1)
    for split in ('train', 'val'):
        (root / split / 'zebra').mkdir()
        shutil.copy(root / split / 'dots' / '0.png', root / split / 'zebra')
    config = write_config(tmp_path / 'four.py', root, "model['head'].update(num_classes=4)\n")
    checkpoint = trained / 'epoch_1.pth'
    expected = r'epoch_1\.pth .*was trained for 3 classes, the model .* has 4'
    assert re.search(expected, fails(config, '--resume', checkpoint))
    assert re.search(expected, fails(config, checkpoint, command=cli.test))


def test_nothing_matches(fails, config, tmp_path):
    torch.save({'state_dict': {'some.weight': torch.zeros(3)}}, tmp_path / 'strange.pth')
    err = fails(config, '--cfg-options', 'load_from=strange.pth')
    assert re.search(r'none of its 1 tensors fits the model', err)
    torch.save({'epoch': 3}, tmp_path / 'no_weights.pth')
    assert 'holds no weights' in fails(config, 'no_weights.pth', command=cli.test)


def test_checkpoint_that_runs_code(fails, config, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ('touch pwned',)

    torch.save({'state_dict': {'w': torch.zeros(1)}, 'x': Evil()}, tmp_path / 'evil.pth')
    assert '--trust-checkpoint' in fails(config, 'evil.pth', command=cli.test)
    assert not (tmp_path / 'pwned').exists()


# test.py ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--out', 'x.csv'], r'--out x\.csv: a name ending in \.pkl or \.json'),
        (['--out', 'bad.py/x.json'], r'--out bad\.py/x\.json: bad\.py is a file'),
        (['--show-dir', 'bad.py'], r'--show-dir: bad\.py is a file'),
        (['--cfg-options', 'test_evaluator=None'], r'test_evaluator is missing'),
        (['--cfg-options', 'test_evaluator.type=Acuracy'], r"did you mean 'Accuracy'"),
        (['--tta', '--cfg-options', 'tta_model.type=AverageClsScoreTTA'], r'--tta: .* only one of'),
        (['--rerank'], r'--rerank: the config is not for re-identification'),
        (['--show-number', '2'], r'--show-number goes with --show-dir'),
    ],
)
def test_arguments_of_test(fails, config, trained, arguments, message):
    err = fails(config, trained / 'epoch_1.pth', *arguments, command=cli.test)
    assert re.search(message, err), err


def test_debug_shows_the_traceback(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='batch_size'):
        cli.train([str(config), '--debug', '--cfg-options', 'train_dataloader.batch_size=0'])


def test_bugs_keep_their_traceback(config, tmp_path, monkeypatch):
    from effvit_mm.openmm.engine.runner import Runner

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Runner, 'train', lambda self: {}['a bug'])
    with pytest.raises(KeyError, match='a bug'):
        cli.train([str(config), '--work-dir', 'w'])


def test_corrupt_image_is_named(fails, tmp_path):
    root = make_folder(tmp_path / 'data', train=2, val=1)
    broken = root / 'train' / 'dots' / '0.png'
    broken.write_bytes(broken.read_bytes()[:60])
    for workers in (0, 1):
        config = write_config(
            tmp_path / f'corrupt{workers}.py', root,
            "train_dataloader['dataset']['pipeline'][0] = dict(type='effvit_mm.LoadImage')\n"
            f"train_dataloader['num_workers'] = {workers}\n",
        )  # fmt: skip
        err = fails(config)
        assert re.search(r'corrupt image .*dots/0\.png', err), err
