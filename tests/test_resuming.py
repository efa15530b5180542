"""``--resume`` goes on with the run that was interrupted, as it would have gone on, or says not."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from remedies import tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.openmm import cli
from effvit_mm.openmm.config.preparing import prepare_training
from effvit_mm.openmm.engine.earlier_runs import find_earlier
from effvit_mm.openmm.engine.hooks import RecordHook
from effvit_mm.openmm.engine.resuming import files_to_resume
from effvit_mm.openmm.engine.runner import build_runner
from effvit_mm.weights import read_checkpoint

WHOLE_COSINE = (
    "param_scheduler = [dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, {})]\n"
)
BY_ITERATION = (
    'default_hooks.update(checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=-1))\n'
)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp('data'))


@pytest.fixture
def config(tmp_path, data, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path / 'tiny.py', data)


@pytest.fixture(scope='module')
def once(tmp_path_factory, data) -> Path:
    """A work folder after one epoch of three."""
    folder = tmp_path_factory.mktemp('once')
    forget_runs()
    config = write_config(folder / 'tiny.py', data)
    assert cli.train([str(config), '--work-dir', str(folder / 'w'), *options(ONE)]) == 0
    return folder / 'w'


ONE = 'train_cfg.max_epochs=1'


def options(*items: object) -> list[str]:
    return ['--cfg-options', *map(str, items)] if items else []


@pytest.fixture
def train(capfd):
    """Train in ``w`` with overrides; gives what was said."""

    def call(config: Path, *flags: str, set: tuple = (), work='w', code: int = 0) -> str:
        forget_runs()
        capfd.readouterr()
        ended = cli.train([str(config), '--work-dir', str(work), *flags, *options(*set)])
        out, err = capfd.readouterr()
        assert ended == code, err
        return ' '.join((out + err).split())

    return call


def rates(work: str | Path, name: str) -> list[float]:
    return [g['lr'] for g in read_checkpoint(Path(work) / name)['optimizer']['param_groups']]


# Which checkpoint ----------------------------------------------------------------------------


@tries('`--resume` would have gone on with it')
def test_the_last_run_not_the_highest_number(config, train):
    train(config, '--seed', '1', set=('train_cfg.max_epochs=2',))
    shutil.copytree('w', 'v')
    said = train(config, '--seed', '2', set=(ONE,))
    assert 'checkpoints of a run before (epoch_2.pth' in said
    assert 'resumed v/epoch_2.pth: epoch 2 of 3' in train(config, '--resume', work='v')
    shutil.copy('v/epoch_2.pth', 'w')  # as where an earlier version wrote beside it
    said = train(config, '--resume')
    assert 'epoch_2.pth: of another run, left aside' in said
    assert re.search(r'resumed \S*epoch_1\.pth: epoch 1 of 3', said)
    assert read_checkpoint('w/epoch_3.pth')['meta']['seed'] == 2


def checkpoints(folder: str | Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob('*.pth')}


def moved_to(said: str) -> Path:
    path = Path(re.search(r'checkpoints of the run before are in (\S+) now', said)[1])
    return path.absolute().relative_to(Path.cwd())


@pytest.mark.parametrize('option', ['max_keep_ckpts=-1', 'out_dir=big', 'filename_tmpl=net_{}.pth'])
def test_a_new_run_loses_nothing_of_the_one_before(config, train, option):
    option = f'default_hooks.checkpoint.{option}'
    folder = Path('big/w' if 'out_dir' in option else 'w')
    train(config, '--seed', '1', set=(option, 'train_cfg.max_epochs=2'))
    (run,) = Path('w').glob('2*')
    earlier, last = checkpoints(folder), Path('w/last_checkpoint').read_text()
    said = train(config, '--seed', '2', set=(option, ONE))
    target = moved_to(said)
    assert target == folder / run.name and 'can be deleted' in said
    assert checkpoints(target) == earlier and any(name.startswith('best_') for name in earlier)
    assert last != Path('w/last_checkpoint').read_text()
    # It is a folder to go on with, and the next run has one of its own.
    assert f'resumed {target / Path(last).name}: epoch 2 of 2' in train(
        config, '--resume', str(target / Path(last).name), work='v', set=('train_cfg.max_epochs=2',)
    )
    second = checkpoints(folder)
    other = moved_to(train(config, '--seed', '3', set=(option, ONE)))
    assert other != target and checkpoints(other) == second and checkpoints(target) == earlier


def test_a_start_that_fails_moves_nothing(config, train, once):
    shutil.copytree(once, 'w')
    there = checkpoints('w')
    for wrong in ('default_hooks.checkpoint.save_best=nonsense', 'load_from=gone.pth'):
        assert 'of the run before are in' not in train(config, set=(wrong,), code=2)
    assert checkpoints('w') == there
    assert 'epoch 1 of 1, iteration 3 of 3 done' in train(config, '--resume', set=(ONE,))


@pytest.mark.parametrize('at', [0, 1])
def test_a_kill_among_the_moves_loses_nothing(config, train, once, monkeypatch, at):
    shutil.copytree(once, 'w')
    there, rename, done = checkpoints('w'), Path.rename, []
    assert len(there) == 2

    def stop(self, target):
        if len(done) == at:
            raise KeyboardInterrupt
        done.append(self)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'rename', stop)
        train(config, code=130)
    assert (Path('w') / 'epoch_1.pth').is_file()
    said = train(config, '--resume', 'w/epoch_1.pth', work='v', set=(ONE,))
    assert 'resumed w/epoch_1.pth' in said
    target = moved_to(train(config, set=(ONE,)))
    assert checkpoints(target) == there


def test_a_run_killed_with_all_moved_says_where_they_are(config, train, once, monkeypatch):
    shutil.copytree(once, 'w')
    there = checkpoints('w')

    def kill(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr('effvit_mm.openmm.engine.runner._Runner.save_checkpoint', kill)
        train(config, code=130)
    assert checkpoints('w') == there  # nothing was to be written yet
    with monkeypatch.context() as patch:
        patch.setattr('mmengine.runner.runner.save_checkpoint', kill)
        target = moved_to(train(config, code=130))
    assert checkpoints(target) == there and not checkpoints('w')
    path = target / 'epoch_1.pth'
    said = train(config, '--resume', set=(ONE,))
    assert f'; {path} is of a run before: --resume {path}' in said.replace(f'{Path.cwd()}/', '')


def test_checkpoints_that_say_nothing_of_their_run_get_a_number(tmp_path):
    for number in (1, 2):
        (tmp_path / 'epoch_1.pth').write_text(str(number))
        earlier = find_earlier(tmp_path, tmp_path, True, None)
        assert earlier.move() == tmp_path / f'earlier_{number}'
    assert (tmp_path / 'earlier_1' / 'epoch_1.pth').read_text() == '1'
    assert find_earlier(tmp_path, tmp_path, True, None) is None


@tries('; move them, or give another folder: --work-dir DIR')
def test_checkpoints_that_cannot_be_moved_end_the_run(config, train, once, monkeypatch):
    shutil.copytree(once, 'w')
    there = checkpoints('w')

    def refuse(self, target):
        raise PermissionError(1, 'Operation not permitted')

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'rename', refuse)
        said = train(config, set=(ONE,), code=2)
        assert 'cannot be moved into' in said and checkpoints('w') == there
        train(config, work='other', set=(ONE,))
    Path('kept').mkdir()
    for name in there:
        (Path('w') / name).rename(Path('kept') / name)
    train(config, set=(ONE,))
    assert checkpoints('kept') == there


@tries('; {} is of a run before: --resume {}')
def test_a_run_that_had_written_nothing_is_not_the_one_before(config, train, once, monkeypatch):
    shutil.copytree(once, 'w')

    def kill(self, runner, *_args, **_kwargs):
        raise KeyboardInterrupt

    # Before its first step, when nothing tells the two runs apart yet, and after it.
    for place in ('before_train', 'after_train_iter'):
        with monkeypatch.context() as patch:
            patch.setattr(RecordHook, place, kill)
            said = train(config, code=130)
        assert 'no checkpoint of this run in w yet' in said and 'go on with' not in said
    said = train(config, '--resume', set=(ONE,))
    assert 'the last run of w had written no checkpoint; w/epoch_1.pth is of a run before' in said
    assert 'starting from scratch' in said
    shutil.copytree(once, 'v')
    assert 'resumed v/epoch_1.pth' in train(config, '--resume', 'v/epoch_1.pth')


@pytest.mark.parametrize('known', [True, False])
@pytest.mark.parametrize('option', ['out_dir=big', 'filename_tmpl=net_{}.pth'])
def test_wherever_checkpoints_are_and_whatever_they_are_called(config, train, option, known):
    option = f'default_hooks.checkpoint.{option}'
    train(config, set=(option, ONE))
    said = train(config, '--resume', set=(option, ONE) if known else (ONE,))
    path = 'big/w/epoch_1.pth' if 'out_dir' in option else 'w/net_1.pth'
    assert f'resumed {path}: epoch 1 of 1' in said.replace(f'{Path.cwd()}/', '')


@tries('; last checkpoint: {}; go on with: {}')
def test_an_interrupted_run_says_a_command_that_goes_on_with_it(config, train, monkeypatch):
    def interrupt(self, runner, *_args, **_kwargs):
        if runner.epoch == 1:
            raise KeyboardInterrupt

    choice = ('default_hooks.checkpoint.out_dir=a b', "experiment_name='x y'")
    with monkeypatch.context() as patch:
        patch.setattr(RecordHook, 'after_train_iter', interrupt)
        said = train(config, '--no-validate', set=choice, code=130)
    assert 'last checkpoint: a b/w/epoch_1.pth; go on with: python ' in said
    command = shlex.split(said.rpartition('go on with: ')[2])
    assert '--no-validate' in command
    forget_runs()
    assert cli.train(command[2:]) == 0
    assert Path('a b/w/epoch_3.pth').exists()


@tries('to train longer, give a higher number: --cfg-options train_cfg.{}=N')
def test_a_run_that_has_finished_is_told_so(config, train):
    # Nothing is learned: the last validation is no better, so no checkpoint knows of it.
    still = ('optim_wrapper.optimizer.lr=1e-30', 'model.backbone.norm_eval=True',
             'custom_hooks=[]', 'param_scheduler=[]')  # fmt: skip
    two = (*still, 'train_cfg.max_epochs=2')
    done = train(config, set=two)
    curves = Path('w/curves.png').read_bytes()
    said = train(config, '--resume', set=two)
    assert 'the run has finished: 2 of 2 epochs are done' in said
    assert 'last validation' not in said and 'stopped' not in said
    assert summary(said) == summary(done) and Path('w/curves.png').read_bytes() == curves
    key = re.search(r'--cfg-options (train_cfg\.\w+)=N', said)[1]
    said = train(config, '--resume', set=(*still, f'{key}=3'))
    assert 'has finished' not in said and Path('w/epoch_3.pth').exists()


def summary(said: str) -> list[str]:
    """The rows of figures and weights under `training done`."""
    rows = re.findall(r'│ (final|best|best weights|last weights) +│ (.*?) +│', said)
    assert {'final', 'best', 'last weights'} <= {name for name, _ in rows}
    return rows


@pytest.mark.parametrize('spoil', ['cut', 'gone', 'of another run', 'of another step'])
def test_a_last_validation_that_nothing_tells_of_is_made_again(config, train, spoil):
    """As after a kill in it, or by a file that is not this run's."""
    done = train(config, set=('train_cfg.max_epochs=2',))
    path = Path('w/history.json')
    kept = json.loads(path.read_text())
    assert [entry['step'] for entry in kept['history']] == [1, 2]
    other = {'of another run': {'run': 'x'}, 'of another step': {'step': 1}}.get(spoil, {})
    text = json.dumps({**kept, **other})
    path.write_text(text[:-9] if spoil == 'cut' else text)
    if spoil == 'gone':
        path.unlink()
    said = train(config, '--resume', set=('train_cfg.max_epochs=2',))
    assert 'its last validation is made again' in said and summary(said) == summary(done)
    again = json.loads(path.read_text())
    assert again['history'] == kept['history'] and again['best'] == kept['best']


def test_files_of_the_last_run_come_first(tmp_path):
    work, copy, out = tmp_path / 'w', tmp_path / 'copy', tmp_path / 'out'
    for folder in (work, copy, out / 'w'):
        folder.mkdir(parents=True)
    for number in (1, 2, 10):
        (work / f'epoch_{number}.pth').touch()
        (copy / f'epoch_{number}.pth').touch()
    names = lambda *arguments: [path.name for path in files_to_resume(*arguments)[0]]  # noqa: E731
    assert names(work) == ['epoch_10.pth', 'epoch_2.pth', 'epoch_1.pth']
    for folder in (work, copy):
        (folder / 'last_checkpoint').write_text(str(work / 'epoch_2.pth'))
    assert names(work) == ['epoch_2.pth', 'epoch_1.pth']
    # A copy goes on with its own files, its newest where that is missing.
    assert files_to_resume(copy)[0][0] == copy / 'epoch_2.pth'
    (copy / 'epoch_2.pth').unlink()
    files, said = files_to_resume(copy)
    assert files[0] == copy / 'epoch_10.pth' and f'which is not in {copy}' in said
    # Files are found by the hook's arguments, and by the record alone.
    (out / 'w' / 'n-007.pth').touch()
    (work / 'last_checkpoint').write_text(str(out / 'w' / 'n-007.pth'))
    hook = {'out_dir': str(out), 'filename_tmpl': 'n-{:03d}.pth'}
    assert names(work, hook) == names(work) == ['n-007.pth']
    (work / 'last_checkpoint').unlink()
    assert names(work, hook) == ['n-007.pth']
    with pytest.raises(ValueError, match=r'out_dir=s3://b.*--resume FILE'):
        files_to_resume(work, {'out_dir': 's3://b'})


# What it goes on with --------------------------------------------------------------------------


@pytest.mark.parametrize('unit', ['', 'convert_to_iter_based=True'])
def test_more_epochs_have_the_schedule_of_the_config(tmp_path, data, train, monkeypatch, unit):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / 'c.py', data, WHOLE_COSINE.format(unit))
    four = 'train_cfg.max_epochs=4'
    train(config, set=('train_cfg.max_epochs=2',))
    said = train(config, '--resume', set=(four,))
    assert 'the schedule is that of the config now' in said
    train(config, work='at_once', set=(four,))
    for name in ('epoch_3.pth', 'epoch_4.pth'):
        assert rates('w', name) == pytest.approx(rates('at_once', name), rel=1e-9)
    assert 'the schedule' not in train(config, '--resume', set=(four,))


@tries('to change it give param_scheduler.{}.end={}, and T_max where it has one')
def test_a_rate_that_stays_is_told_with_what_changes_it(config, train, once):
    shutil.copytree(once, 'w')
    three = ('param_scheduler.0.end=1', 'param_scheduler.1.end=2')
    train(config, '--resume', set=('train_cfg.max_epochs=2', *three))
    shutil.copytree('w', 'v')
    said = train(config, '--resume', set=('train_cfg.max_epochs=4', *three))
    assert 'param_scheduler ends with epoch 2, so the learning rate stays until epoch 4' in said
    assert rates('w', 'epoch_3.pth') == rates('w', 'epoch_4.pth')
    remedy = re.search(r'give (param_scheduler\.1\.end=4), and T_max', said)[1]
    longer = ('train_cfg.max_epochs=4', three[0], remedy, 'param_scheduler.1.T_max=3')
    train(config, '--resume', work='v', set=longer)
    assert rates('v', 'epoch_3.pth') != rates('w', 'epoch_3.pth')


@pytest.mark.parametrize('workers', [0, 1])
def test_the_middle_of_an_epoch_goes_on_exactly(tmp_path, data, train, monkeypatch, workers):
    monkeypatch.chdir(tmp_path)
    extra = f"{BY_ITERATION}train_dataloader['num_workers'] = {workers}\n"
    config = write_config(tmp_path / 'c.py', data, extra)
    two = ('train_cfg.max_epochs=2',)
    train(config, set=two)
    whole = read_checkpoint('w/iter_6.pth')
    for number in (2, 3, 4):  # within the first epoch, at its end, within the second
        shutil.rmtree('v', ignore_errors=True)
        Path('v').mkdir()
        shutil.copy(f'w/iter_{number}.pth', 'v')
        said = train(config, '--resume', work='v', set=two)
        assert f'iteration {number} of 6 done' in said
        resumed = read_checkpoint('v/iter_6.pth')
        assert (resumed['meta']['iter'], resumed['meta']['epoch']) == (6, 1)
        for key in ('state_dict', 'ema_state_dict'):
            for name, value in whole[key].items():
                assert torch.equal(value, resumed[key][name]), (number, name)
        histories = [c['message_hub']['runtime_info']['effvit_mm/losses'] for c in (whole, resumed)]
        assert histories[0] == histories[1]


@tries(
    'Go on with a checkpoint from the end of an epoch, `--resume FILE`',
    'To start a new training from its weights leave out --resume, and use '
    '`--cfg-options load_from={}`',
)
def test_the_middle_of_an_epoch_that_cannot_go_on_is_refused(tmp_path, data, train, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / 'c.py', data, BY_ITERATION)
    train(config, set=('train_cfg.max_epochs=2',))
    said = train(config, '--resume', 'w/iter_4.pth', set=('train_dataloader.batch_size=4',), code=2)
    assert 'middle of epoch 2, iteration 1 of 3' in said and 'has 6 iterations now' in said
    end = ('--resume', 'w/iter_3.pth')
    train(config, *end, work='v', set=('train_dataloader.batch_size=4', 'train_cfg.max_epochs=2'))
    content = read_checkpoint('w/iter_4.pth')
    del content['message_hub']['runtime_info']['effvit_mm/run']  # of an earlier version
    torch.save(content, 'w/iter_4.pth')
    said = train(config, '--resume', 'w/iter_4.pth', code=2)
    assert 'w/iter_4.pth is from the middle of epoch' in said
    remedy = re.search(r'--cfg-options (load_from=\S+?)`', said)[1]
    train(config, work='new', set=(remedy, ONE))


# What it keeps ---------------------------------------------------------------------------------


def test_another_rate_is_told_and_not_followed(config, train, once):
    shutil.copytree(once, 'w')
    said = train(
        config, '--resume',
        set=('optim_wrapper.optimizer.lr=0.5', 'optim_wrapper.optimizer.weight_decay=0.1'),
    )  # fmt: skip
    assert "keeps its optimizer's lr 0.001 (not 0.5), weight_decay 0.05 (not 0.1)" in said
    assert max(rates('w', 'epoch_3.pth')) <= 0.001


@tries('leave optim_wrapper as it was')
def test_another_optimizer_is_refused(config, train, once):
    shutil.copytree(once, 'w')
    for kind in ('SGD', 'Adam'):
        said = train(config, '--resume', set=(f'optim_wrapper.optimizer.type={kind}',), code=2)
        assert f'optim_wrapper.optimizer is {kind}, and ' in said
        assert 'has the state of AdamW; leave optim_wrapper as it was' in said
    shutil.copytree('w', 'v')
    assert 'resumed' in train(config, '--resume', work='v')
    content = read_checkpoint('w/epoch_1.pth')
    del content['message_hub']['runtime_info']['effvit_mm/run']  # of an earlier version
    torch.save(content, 'w/epoch_1.pth')
    said = train(config, '--resume', set=('optim_wrapper.optimizer.type=SGD',), code=2)
    assert 'has the state of another' in said
    remedy = re.search(r'--cfg-options (load_from=\S+?)`', said)[1]
    train(config, work='new', set=(remedy, 'optim_wrapper.optimizer.type=SGD', ONE))


@tries('leave optim_wrapper.paramwise_cfg as it was')
def test_other_groups_are_refused(config, train, once):
    shutil.copytree(once, 'w')
    said = train(config, '--resume', set=('optim_wrapper.paramwise_cfg.norm_decay_mult=0',), code=2)
    assert re.search(
        r'makes groups: \d+ \(.* parameters\), and .* has the state of \d+ \(.*paramwise_cfg', said
    )
    assert 'leave optim_wrapper.paramwise_cfg as it was' in said
    assert 'resumed' in train(config, '--resume')


def test_another_schedule_is_followed(config, train, once):
    shutil.copytree(once, 'w')
    text = config.read_text().replace(
        "dict(type='CosineAnnealingLR', T_max=2, begin=1, end=3, by_epoch=True)",
        "dict(type='MultiStepLR', milestones=[2], gamma=0.5, by_epoch=True)",
    )
    config.write_text(text)
    assert 'the schedule is that of the config now' in train(config, '--resume')
    train(config, work='at_once')
    for name in ('epoch_2.pth', 'epoch_3.pth'):
        assert rates('w', name) == pytest.approx(rates('at_once', name))


def test_another_batch_size_is_told(config, train, once):
    shutil.copytree(once, 'w')
    said = train(config, '--resume', set=('train_dataloader.batch_size=4',))
    assert 'an epoch had 3 iterations and has 6 now' in said
    assert 'epoch 1 of 3, iteration 6 of 18 done' in said


def test_without_the_average_it_goes_on_with_what_was_trained(config, once):
    shutil.copytree(once, 'w')
    arguments = ['--work-dir', 'w', '--resume', *options(ONE, 'custom_hooks=[]')]
    forget_runs()
    runner = build_runner(
        prepare_training(cli.train_parser().parse_args([str(config), *arguments]))
    )
    model = runner.train()
    content = read_checkpoint('w/epoch_1.pth')
    for name, value in model.state_dict().items():
        assert torch.equal(value, content['ema_state_dict'][f'module.{name}']), name
    parameters = dict(model.named_parameters())
    assert any(not torch.equal(parameters[n], content['state_dict'][n]) for n in parameters)


# Stopping early -----------------------------------------------------------------------------------

STOPPING = """
custom_hooks = [
    dict(type='EarlyStoppingHook', monitor='accuracy/top1', min_delta=1000.0, patience={})
]
"""


@tries("To go on, raise the hook's patience")
def test_a_resumed_training_stops_early_where_the_undisturbed_one_does(
    tmp_path, data, train, monkeypatch
):
    """The second and the third validation are no better than the first: three epochs."""
    monkeypatch.chdir(tmp_path)
    longer = ('train_cfg.max_epochs=6', 'param_scheduler=[]')
    config = write_config(tmp_path / 'tiny.py', data, STOPPING.format(2))
    train(config, set=longer)
    assert read_checkpoint('w/epoch_3.pth')['meta']['epoch'] == 3
    assert not Path('w/epoch_4.pth').exists()
    for epoch in (1, 2, 3):
        other = f'other{epoch}'
        train(config, '--resume', f'w/epoch_{epoch}.pth', work=other, set=longer)
        epochs = [path.name for path in Path(other).glob('epoch_*.pth')]
        assert sorted(epochs) == [f'epoch_{n}.pth' for n in range(epoch + 1, 4)]
    patient = write_config(tmp_path / 'patient.py', data, STOPPING.format(9))
    train(patient, '--resume', 'w/epoch_3.pth', work='patient', set=longer)
    assert Path('patient/epoch_6.pth').exists()
