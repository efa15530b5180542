"""The runner's promises, in this process: resume, precision, files, testing."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from mmengine.hooks import ParamSchedulerHook
from trainer import CLASSES, REPOSITORY, forget_runs, make_folder, write_config

from effvit_mm.errors import CheckpointError, ConfigError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config import preparing as configure
from effvit_mm.openmm.config.building import building
from effvit_mm.openmm.engine import report
from effvit_mm.openmm.engine.resuming import find_checkpoints
from effvit_mm.openmm.engine.runner import Runner
from effvit_mm.utils import bfloat16
from effvit_mm.weights.checkpoint import read_checkpoint

# What of the training's state must survive a resume, one variant each.
VARIANTS = {
    'plain': '',
    'workers': 'train_dataloader.update(num_workers=2, persistent_workers=True)\n',
    'accumulation': 'optim_wrapper.update(accumulative_counts=2, clip_grad=dict(max_norm=1.0))\n'
    'auto_scale_lr.update(enable=True)\n',
    'amp': "optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')\n",
    'plateau': "param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='accuracy/top1', "
    "rule='greater', factor=0.5, patience=0)]\n",
    'seedless': 'randomness = dict(seed=None)\n',
    'iterations': 'train_cfg = dict(by_epoch=False, max_iters=9, val_interval=3)\n'
    "param_scheduler = [dict(type='CosineAnnealingLR', T_max=9, by_epoch=False)]\n"
    'default_hooks.update(checkpoint=dict(by_epoch=False, interval=3))\n'
    "train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)\n"
    'log_processor = dict(by_epoch=False)\n',
}

# A processor without bfloat16, as Linux describes it, and how the training says so.
AVX2 = 'processor : 0\nmodel name : Any\nflags\t\t: fpu sse4_2 avx avx2 fma\nbogomips : 4800\n'
SLOW = 'this processor has no bfloat16 instructions'


@pytest.fixture(autouse=True)
def fresh_run():
    forget_runs()


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp('data'))


@pytest.fixture
def config(tmp_path, data) -> Path:
    return write_config(tmp_path / 'tiny.py', data)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, data) -> tuple[Path, Path]:
    """Config and work folder of a finished training."""
    folder = tmp_path_factory.mktemp('trained')
    forget_runs()
    config = write_config(folder / 'tiny.py', data)
    assert cli.train([str(config), '--work-dir', str(folder / 'work')]) == 0
    return config, folder / 'work'


def train(config: Path, work: Path, *arguments: str) -> Path:
    forget_runs()
    assert cli.train([str(config), '--work-dir', str(work), *arguments]) == 0
    return work


def assert_equal(left: object, right: object, where: str = '') -> None:
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_equal(left[key], right[key], f'{where}.{key}')
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_equal(one, other, f'{where}[{index}]')
    else:
        assert left == right, where


class Killed(BaseException):
    """In place of SIGKILL: nothing of the trainer catches it."""


@pytest.mark.parametrize('variant', VARIANTS)
def test_killed_in_the_validation_and_resumed(variant, tmp_path, data, monkeypatch):
    """The second checkpoint is there, its validation is not: all must end the same."""
    config = write_config(tmp_path / f'{variant}.py', data, VARIANTS[variant])
    work, whole = tmp_path / 'killed', tmp_path / 'whole'

    step = ParamSchedulerHook.after_val_epoch

    def kill(self, runner, metrics=None):
        if runner.message_hub.get_info('iter') == 5:
            raise Killed
        step(self, runner, metrics)

    with monkeypatch.context() as patch:
        patch.setattr('mmengine.hooks.ParamSchedulerHook.after_val_epoch', kill)
        with pytest.raises(Killed):
            cli.train([str(config), '--work-dir', str(work)])
    names = [path.name for path in find_checkpoints(work, variant != 'iterations')]
    assert names[0] in ('epoch_2.pth', 'iter_6.pth')
    train(config, work, '--resume')
    if variant == 'seedless':
        seed = read_checkpoint(work / 'epoch_1.pth')['meta']['seed']
        train(config, whole, '--seed', str(seed))
    else:
        train(config, whole)
    last = 'iter_9.pth' if variant == 'iterations' else 'epoch_3.pth'
    one, other = read_checkpoint(work / last), read_checkpoint(whole / last)
    for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(one[key], other[key], key)
    infos = [content['message_hub']['runtime_info'] for content in (one, other)]
    for key in ('effvit_mm/history', 'best_score'):
        assert infos[0][key] == infos[1][key]
    best = [sorted(path.name for path in folder.glob('best_*')) for folder in (work, whole)]
    assert best[0] == best[1] and len(best[0]) == 1


def test_augmentations_differ_between_epochs_and_not_between_runs(tmp_path, data):
    """mmengine seeds the workers of all epochs alike."""
    config = write_config(tmp_path / 'workers.py', data, VARIANTS['workers'])
    arguments = cli.train_parser().parse_args([str(config), '--work-dir', str(tmp_path / 'w')])
    batches = []
    for _ in range(2):
        forget_runs()
        runner = Runner.from_cfg(configure.prepare_training(arguments))
        loop = runner.train_loop
        loop.dataloader.sampler.shuffle = False
        for epoch in range(2):
            loop._epoch = epoch
            runner.call_hook('before_train_epoch')
            batches.append(next(iter(loop.dataloader))['inputs'].clone())
    assert torch.equal(batches[0], batches[2]) and torch.equal(batches[1], batches[3])
    assert not torch.equal(batches[0], batches[1])


def test_resume_without_checkpoint_starts_and_says_so(config, tmp_path, capfd):
    train(config, tmp_path / 'w', '--resume', '--cfg-options', 'train_cfg.max_epochs=1')
    assert 'no checkpoint to resume' in capfd.readouterr().out


def test_resume_passes_over_a_broken_file_but_never_starts_anew(trained, tmp_path, capfd):
    config, work = trained
    folder = tmp_path / 'w'
    folder.mkdir()
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        (folder / name).write_bytes((work / name).read_bytes())
    (folder / 'epoch_3.pth').write_bytes(b'broken')
    (folder / '.epoch_4.pth.tmp').write_bytes(b'half')
    train(config, folder, '--resume')
    out = capfd.readouterr().out
    assert 'epoch_3.pth cannot be read' in out and 'trying the checkpoint before it' in out
    assert 'epoch 2 of 3' in out
    assert not list(folder.glob('.*.tmp'))
    for path in folder.glob('epoch_*.pth'):
        path.write_bytes(b'broken')
    assert cli.train([str(config), '--work-dir', str(folder), '--resume']) == 2


def test_resume_of_a_finished_training_changes_nothing(trained, tmp_path):
    config, work = trained
    before = read_checkpoint(work / 'epoch_3.pth')
    train(config, work, '--resume')
    assert_equal(before['state_dict'], read_checkpoint(work / 'epoch_3.pth')['state_dict'])


def test_resume_from_a_path(trained, tmp_path):
    config, work = trained
    again = train(config, tmp_path / 'again', '--resume', str(work / 'epoch_1.pth'))
    one, other = (read_checkpoint(folder / 'epoch_3.pth') for folder in (work, again))
    assert_equal(one['state_dict'], other['state_dict'])


def test_which_of_two_kinds_of_weights_starts_a_training_is_said(trained, tmp_path, capfd):
    """mmengine's averaging has exchanged the two in its checkpoints."""
    config, work = trained
    checkpoint = work / 'epoch_3.pth'
    content = read_checkpoint(checkpoint)
    still = ('train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=1e-9', f'load_from={checkpoint}')
    for options, key, prefix, said in (
        ((), 'state_dict', '', 'averaged weights, key state_dict'),
        (('use_ema=False',), 'ema_state_dict', 'module.', 'without averaging, key ema_state_dict'),
    ):
        folder = train(config, tmp_path / key, '--cfg-options', *still, *options)
        assert said in ' '.join(capfd.readouterr().out.split())
        after = read_checkpoint(folder / 'epoch_1.pth')['state_dict']
        for name in ('backbone.conv1.weight', 'head.layers.0.fc.weight'):
            torch.testing.assert_close(after[name], content[key][prefix + name])


def test_averages_begin_with_published_weights_of_another_size(tmp_path, data, capfd):
    """Names and sizes are changed before averaging begins with the weights."""
    import timm

    sizes = {'img_size': 64, 'embed_dim': 24, 'num_heads': 3, 'mlp_ratio': 2}
    theirs = timm.create_model('deit_tiny_patch16_224', num_classes=7, **sizes)
    torch.save(theirs.state_dict(), tmp_path / 'timm.pth')
    arch = {'embed_dims': 24, 'depths': (3, 3, 3, 3), 'num_heads': 3, 'mlp_ratio': 2}
    backbone = {'type': 'effvit_mm.VisionTransformer', 'arch': arch, 'img_size': 32}
    head = {'type': 'effvit_mm.LinearClsHead', 'in_channels': 24, 'num_classes': 3, 'topk': (1,)}
    model = (
        f"model['backbone'] = {backbone | {'out_type': 'cls_token'}}\n"
        f"model['head'] = {head}\ndel model['neck']\n"
    )
    config = write_config(tmp_path / 'deit.py', data, model)
    still = ('train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=1e-9')
    options = ('--cfg-options', *still, f'load_from={tmp_path / "timm.pth"}')
    folder = train(config, tmp_path / 'w', *options)
    said = ' '.join(capfd.readouterr().out.split())
    assert '2 of another shape: head.fc.weight (7, 24) instead of (3, 24)' in said
    assert 'names as published for' in said and '1 resized: backbone.stem.pos_embed' in said
    content = read_checkpoint(folder / 'epoch_1.pth')
    for key, prefix in (('state_dict', ''), ('ema_state_dict', 'module.')):
        state = content[key]
        for ours, original in (('stages.3.2.mlp.fc1', 'blocks.11.mlp.fc1'), ('norm', 'norm')):
            want = theirs.state_dict()[f'{original}.weight']
            torch.testing.assert_close(state[f'{prefix}backbone.{ours}.weight'], want)
        assert state[f'{prefix}backbone.stem.pos_embed'].shape == (1, 5, 24)


def test_old_checkpoint_stays_until_the_new_one_is_there(config, tmp_path, monkeypatch):
    """With one kept checkpoint and a full disk the last one must survive."""
    import mmengine.runner.runner as module

    write = module.save_checkpoint

    def full(checkpoint, path, **kwargs):
        if checkpoint['meta']['epoch'] > 1:
            raise OSError(28, 'No space left on device')
        write(checkpoint, path, **kwargs)

    monkeypatch.setattr(module, 'save_checkpoint', full)
    options = ('--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=1')
    assert cli.train([str(config), '--work-dir', str(tmp_path / 'w'), *options]) == 2
    assert read_checkpoint(tmp_path / 'w' / 'epoch_1.pth')['meta']['epoch'] == 1
    assert len(list((tmp_path / 'w').glob('best_*.pth'))) == 1


def test_checkpoints_are_ordered_by_number(tmp_path):
    for name in ('epoch_9.pth', 'epoch_10.pth', 'iter_500.pth', 'epoch_x.pth', 'best_epoch_99.pth'):
        (tmp_path / name).write_bytes(b'')
    names = [path.name for path in find_checkpoints(tmp_path)]
    assert names == ['epoch_10.pth', 'epoch_9.pth', 'iter_500.pth']
    assert find_checkpoints(tmp_path, by_epoch=False)[0].name == 'iter_500.pth'


def test_own_checkpoints_are_read_safely(trained):
    content = read_checkpoint(trained[1] / 'epoch_3.pth')  # trust=False
    assert content['message_hub']['log_scalars']['train/loss'].current() > 0


def test_a_getattr_in_a_checkpoint_is_refused(tmp_path):
    class Reach:
        def __reduce__(self):
            return getattr, (object, '__subclasses__')

    torch.save({'state_dict': {'w': torch.zeros(1)}, 'x': Reach()}, tmp_path / 'reach.pth')
    with pytest.raises(CheckpointError, match='refused'):
        read_checkpoint(tmp_path / 'reach.pth')


def test_amp_on_the_cpu(config, tmp_path, monkeypatch, capfd):
    """Where the processor has no instructions for it, that is said once, before the first step."""
    (tmp_path / 'cpuinfo').write_text(AVX2)
    monkeypatch.setattr(bfloat16, 'INFO', tmp_path / 'cpuinfo')
    train(config, tmp_path / 'w', '--amp', '--cfg-options', 'train_cfg.max_epochs=1')
    before, line, after = capfd.readouterr().out.partition(SLOW)
    assert line and SLOW not in after and 'Epoch(train)' in after
    assert 'Epoch(train)' not in before
    state = read_checkpoint(tmp_path / 'w' / 'epoch_1.pth')['state_dict']
    assert all(v.dtype == torch.float32 for v in state.values() if v.is_floating_point())
    plain = train(config, tmp_path / 'p', '--cfg-options', 'train_cfg.max_epochs=1')
    assert SLOW not in capfd.readouterr().out
    other = read_checkpoint(plain / 'epoch_1.pth')['state_dict']
    assert any(not torch.equal(state[k], other[k]) for k in state)


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        (AVX2, False),
        (AVX2.replace('avx2', 'avx2 avx512f avx512_vnni'), False),
        (AVX2.replace('avx2', 'avx2 avx512_bf16'), True),
        (AVX2.replace('avx2', 'avx2 amx_bf16 amx_tile'), True),
        ('processor : 0\nFeatures : fp asimd sve bf16 i8mm\n', True),
        ('processor : 0\nFeatures : fp asimd\n\nprocessor : 1\nFeatures : fp bf16\n', False),
        ('processor : 0\ncpu : POWER9\n', None),
        (None, None),
    ],
)
def test_bfloat16_instructions_are_read_from_the_system(text, found, tmp_path, monkeypatch):
    path = tmp_path / 'cpuinfo'
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(bfloat16, 'INFO', path)
    assert bfloat16.has_bfloat16() is found


def test_amp_refuses_float16_on_the_cpu():
    from effvit_mm.openmm.engine.optim import CPUAmpOptimWrapper

    parameter = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(ConfigError, match='bfloat16'):
        CPUAmpOptimWrapper(dtype='float16', optimizer=torch.optim.SGD([parameter], lr=1.0))


def test_fine_tuning_from_another_number_of_classes(trained, tmp_path, capfd):
    """The commonest use of load_from: allowed, and said."""
    root = make_folder(tmp_path / 'data', train=2, val=1)
    for split in ('train', 'val'):
        for path in (root / split / 'rings').iterdir():
            path.unlink()
        (root / split / 'rings').rmdir()
    config = write_config(tmp_path / 'two.py', root, "model['head'].update(num_classes=2)\n")
    checkpoint = trained[1] / 'epoch_3.pth'
    options = ('--cfg-options', f'load_from={checkpoint}', 'train_cfg.max_epochs=1')
    train(config, tmp_path / 'w', *options)
    assert 'of another shape: head.layers.1.fc.weight (3, 8) instead of (2, 8)' in (
        capfd.readouterr().out
    )


def test_no_validate_and_save_best_by_name(config, tmp_path):
    options = ('train_cfg.max_epochs=1', 'default_hooks.checkpoint.save_best=accuracy/top1')
    work = train(config, tmp_path / 'w', '--cfg-options', *options)
    assert len(list(work.glob('best_accuracy_top1_epoch_1.pth'))) == 1
    work = train(config, tmp_path / 'n', '--no-validate', '--cfg-options', *options)
    assert not list(work.glob('best_*'))
    assert (work / 'curves.png').exists()


def test_figures_that_do_not_exist_are_neither_drawn_nor_printed(tmp_path, monkeypatch):
    drawn, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        drawn.append([line.get_label() for line in figure.axes[-1].get_lines()])
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', keep)
    history = [
        {'step': step, 'loss': 0.5, 'metrics': {'mAP': 0.1 * step, 'mAP_s': -1.0, 'mAP_m': first}}
        for step, first in ((1, -1.0), (2, 0.3))
    ]
    report.draw_curves(history, tmp_path / 'curves.png')
    assert drawn == [['mAP', 'mAP_m']] and (tmp_path / 'curves.png').stat().st_size
    assert report.format_metrics(history[1]['metrics']) == 'mAP 0.2000, mAP_s -, mAP_m 0.3000'


def test_two_best_metrics(config, tmp_path):
    metrics = "[dict(type='Accuracy', topk=(1,)), dict(type='SingleLabelMetric')]"
    text = config.read_text() + (
        f'val_evaluator = {metrics}\n'
        "default_hooks.update(checkpoint=dict(save_best=['accuracy/top1', "
        "'single-label/precision']))\n"
    )
    config.write_text(text)
    work = train(config, tmp_path / 'w')
    assert len(list(work.glob('best_accuracy*'))) == 1
    assert len(list(work.glob('best_single*'))) == 1


def test_shipped_configs_pass_the_checks(tmp_path):
    """The checks must not refuse what is right."""
    for path in sorted((REPOSITORY / 'configs' / 'pslt').glob('*.py')):
        arguments = [str(path), '--work-dir', str(tmp_path)]
        configure.prepare_training(cli.train_parser().parse_args(arguments))


@pytest.mark.parametrize(
    'name',
    [
        'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        'mmdet::detr/detr_r50_8xb2-150e_coco.py',
        'mmdet::libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py',  # a list of necks
        'mmdet::maskformer/maskformer_r50_ms-16xb1-75e_coco.py',  # max_per_image
        'mmpretrain::resnet/resnet50_8xb32_in1k.py',
        'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
        'mmpretrain::deit/deit-small_4xb256_in1k.py',
    ],
)
def test_openmmlabs_configs_pass_the_checks(name, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {name!r}\n')
    arguments = [str(path), '--work-dir', str(tmp_path)]
    configure.prepare_training(cli.train_parser().parse_args(arguments))


# Testing ------------------------------------------------------------------------------------------


def test_test_writes_predictions_and_pictures(trained, tmp_path, capfd, monkeypatch):
    config, work = trained
    monkeypatch.chdir(tmp_path)
    common = [str(config), str(work / 'epoch_3.pth'), '--work-dir', 't']
    assert cli.test([*common, '--out', 'o/p.json', '--show-dir', 'shown']) == 0
    out = capfd.readouterr().out
    assert 'accuracy/top1' in out and 'images/s' in out and 'o/p.json' in out
    predictions = json.loads(Path('o/p.json').read_text())
    assert len(predictions) == 12
    assert {'pred_label', 'pred_score', 'gt_label', 'img_path'} <= predictions[0].keys()
    for sample in predictions:
        named = Path(sample['img_path']).parent.name, CLASSES[sample['pred_label'][0]]
        assert (sample['gt_class'], sample['pred_class']) == named
    assert len(list(Path('shown').glob('*_*_*.png'))) == 12
    right = sum(p['pred_label'] == p['gt_label'] for p in predictions)
    assert len(list(Path('shown').glob('right_*.png'))) == right

    forget_runs()
    assert cli.test([*common, '--out', 'p.pkl', '--tta']) == 0
    flipped = pickle.loads(Path('p.pkl').read_bytes())
    assert len(flipped) == 12
    scores = [[float(s) for s in p['pred_score']] for p in flipped]
    assert scores != [p['pred_score'] for p in predictions]


def test_test_gives_the_validation_of_the_training(trained, tmp_path):
    config, work = trained
    history = read_checkpoint(work / 'epoch_3.pth')['message_hub']['runtime_info']
    best = next(work.glob('best_*.pth'))
    args = cli.test_parser().parse_args([str(config), str(best), '--work-dir', str(tmp_path)])
    metrics = Runner.from_cfg(configure.prepare_testing(args)).test()
    assert metrics['accuracy/top1'] == pytest.approx(history['best_score'])


LEVIT = """
model.update(
    backbone=dict(
        type='effvit_mm.LeViT', attention=dict(type='LinearAngularAttention'),
        arch=dict(embed_dims=(16, 24, 32), num_heads=(2, 3, 2), depths=(1, 1, 1), key_dim=8),
    ),
    neck=None, head=dict(type='effvit_mm.LeViTClsHead', in_channels=32, num_classes=3),
)
train_cfg.update(max_epochs=1)
param_scheduler = []
"""


def test_test_of_the_deployed_form(trained, data, tmp_path, capfd, monkeypatch):
    pytest.importorskip('openvino')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    config = write_config(tmp_path / 'levit.py', data, LEVIT)
    assert cli.train([str(config), '--work-dir', str(tmp_path / 'work')]) == 0
    scores = []
    for flags in ([], ['--deploy'], ['--runtime', 'openvino']):
        forget_runs()
        out = tmp_path / f'{len(flags)}.json'
        weights = str(tmp_path / 'work' / 'epoch_1.pth')
        common = [str(config), weights, '--work-dir', str(tmp_path / 't'), '--out', str(out)]
        assert cli.test([*common, *flags]) == 0
        scores.append(torch.tensor([p['pred_score'] for p in json.loads(out.read_text())]))
    for other in scores[1:]:  # with EMA's weights, each time
        torch.testing.assert_close(scores[0], other, rtol=1e-4, atol=1e-5)
    assert 'deployed, by openvino in fp32' in capfd.readouterr().out

    forget_runs()
    config, work = trained
    common = [str(config), str(work / 'epoch_3.pth'), '--work-dir', str(tmp_path / 't')]
    assert cli.test([*common, '--deploy']) == 2
    assert 'no part of ImageClassifier has a deployed form' in capfd.readouterr().err


def test_what_data_sets_print_is_seen_but_for_the_progress_of_pycocotools(capsys):
    with building({}, 'train_dataloader'):
        print('creating index...')
        print('read', 3, 'files')
        print('index created!')
    assert capsys.readouterr().out == 'read 3 files\n'
