"""Pieces of a detector's recipe, put together by config or command line: precision, averaged
weights, several scales, weights from classification, the light detector and what it costs."""

from pathlib import Path

import pytest
import torch
from coco_sets import make_coco
from detectors import PLAIN, build, small_config
from mmengine.config import Config
from mmengine.logging import MessageHub
from programs import load_tool
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from trainer import forget_runs, make_folder, write_config

from effvit_mm.backbones.transformer import resize_positions
from effvit_mm.flops import flops_by_module, flops_of, zeros
from effvit_mm.openmm import cli
from effvit_mm.openmm.flops import TensorPass
from effvit_mm.weights.checkpoint import get_state_dict, read_checkpoint

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
LONG = sorted(CONFIGS.glob('*/*_fpn_ms-3x_coco.py'))
LIGHT = sorted(CONFIGS.glob('*/*_csp-pan_*_coco.py'))


def size_of(path: Path) -> int:
    """``..._csp-pan_320_coco`` is for 320 pixels."""
    return int(path.stem.split('_')[-2])


named = {'ids': lambda path: path.stem}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget_runs()


def write_small(family: str, detector: str, epochs: int = 1, lr: float = 1e-3) -> str:
    """A small detector of a shipped config, on three images of 96 x 72: one step an epoch."""
    make_coco(Path('data'), splits=('train',))
    cfg = small_config(family, detector)
    mask = detector == 'mask-rcnn'
    pipeline = [
        {'type': 'effvit_mm.LoadImage'},
        {'type': 'Resize', 'scale': (96, 72), 'keep_ratio': True},
        {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': mask},
        {
            'type': 'PackDetInputs',
            'meta_keys': ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
        },
    ]
    dataset = {
        'type': 'effvit_mm.CocoFolder',
        'data_root': 'data',
        'ann_file': 'train.json',
        'data_prefix': {'img': 'images'},
        'pipeline': pipeline,
    }
    cfg.train_dataloader.update(batch_size=3, num_workers=0, dataset=dataset)
    cfg.test_dataloader.update(num_workers=0, dataset={**dataset, 'test_mode': True})
    cfg.test_dataloader.pop('persistent_workers')
    cfg.test_evaluator.ann_file = 'data/train.json'
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.train_cfg.max_epochs, cfg.param_scheduler = epochs, []
    cfg.optim_wrapper.optimizer.lr = lr
    cfg.randomness = {'seed': 3}
    cfg.dump('small.py')
    return 'small.py'


def weights(path: str, key: str = 'state_dict') -> dict[str, torch.Tensor]:
    return {k: v for k, v in read_checkpoint(path)[key].items() if v.is_floating_point()}


# --- Mixed precision ------------------------------------------------------------------------------


@pytest.mark.parametrize('detector', ['retinanet', 'mask-rcnn'])
def test_mixed_precision_trains_on_the_cpu(detector):
    config = write_small('pslt/{}_pslt-tiny', detector)
    used = set()
    handle = register_module_forward_hook(
        lambda module, args, out: used.add(out.dtype) if isinstance(module, nn.Conv2d) else None
    )
    try:
        assert cli.train([config, '--work-dir', 'work', '--amp']) == 0
    finally:
        handle.remove()
    assert used == {torch.bfloat16}
    content = read_checkpoint('work/epoch_1.pth')
    losses = content['message_hub']['log_scalars']
    names = {'loss_cls', 'loss_bbox'} | ({'loss_mask'} if detector == 'mask-rcnn' else set())
    for name in ('loss', *names):
        assert 0 < losses[f'train/{name}'].current() < 100, name
    assert {v.dtype for v in get_state_dict(content).values()} == {torch.float32, torch.int64}


# --- Averaged weights -----------------------------------------------------------------------------


def test_averaged_weights_are_saved_and_tested():
    """By one option, and exactly: the first step's, then 0.3 times the second's and 0.7 of it."""
    config = write_small('pslt/{}_pslt-tiny', 'retinanet', epochs=2)
    assert cli.train([config, '--work-dir', 'raw']) == 0
    forget_runs()
    average = ['default_hooks.ema.type=EMAHook', 'default_hooks.ema.momentum=0.3']
    assert cli.train([config, '--work-dir', 'ema', '--cfg-options', *average]) == 0
    first, second = weights('raw/epoch_1.pth'), weights('raw/epoch_2.pth')
    kept, raw = weights('ema/epoch_2.pth'), weights('ema/epoch_2.pth', 'ema_state_dict')
    trained = [key for key in second if not torch.equal(first[key], second[key])]
    trained = [key for key in trained if 'running_' not in key]
    assert len(trained) > 100
    for key in trained:
        assert torch.equal(raw[f'module.{key}'], second[key]), key
        torch.testing.assert_close(kept[key], 0.7 * first[key] + 0.3 * second[key])

    tested = []
    handle = register_module_forward_pre_hook(
        lambda module, args: (
            tested.append(module.stem[0][0].weight.detach().clone())
            if type(module).__name__ == 'PSLT'
            else None
        )
    )
    forget_runs()
    try:
        arguments = [config, 'ema/epoch_2.pth', '--work-dir', 'test', '--cfg-options', *average]
        assert cli.test(arguments) == 0
    finally:
        handle.remove()
    name = 'backbone.stem.0.0.weight'
    assert name in trained and len(tested) == 1 + 3  # an image is tried before
    assert all(torch.equal(weight, kept[name]) for weight in tested)


# --- Weights from classification ------------------------------------------------------------------

CLASSIFIED = {'arch': PLAIN, 'attention': {'type': 'effvit_mm.LinearAngularAttention'}}


def train_classifier() -> str:
    """The backbone of the small Castling-DeiT as a classifier of 32 pixels, four patches."""
    path = write_config(Path('classifier.py'), make_folder(Path('classes'), train=3, val=1))
    cfg = Config.fromfile(path)
    cfg.model.neck = None
    cfg.model.backbone = {
        'type': 'effvit_mm.VisionTransformer', **CLASSIFIED,
        'img_size': 32, 'out_type': 'cls_token',
    }  # fmt: skip
    cfg.model.head = {'type': 'effvit_mm.LinearClsHead', 'in_channels': 24, 'num_classes': 3}
    cfg.train_cfg.max_epochs, cfg.custom_hooks = 1, []
    cfg.dump('classifier.py')
    assert cli.train(['classifier.py', '--work-dir', 'classifier', '--no-validate']) == 0
    forget_runs()
    return 'classifier/epoch_1.pth'


def pretrained(checkpoint: str, **options: str) -> list[str]:
    options = {'type': 'Pretrained', 'checkpoint': checkpoint, **options}
    init = [f'model.backbone.init_cfg.{key}={value}' for key, value in options.items()]
    return ['--cfg-options', *init, 'optim_wrapper.optimizer.weight_decay=0']


def test_a_detector_starts_from_a_classifier_of_ours(capsys):
    source = train_classifier()
    config = write_small('castling/{}_castling-deit-tiny', 'retinanet', lr=1e-12)
    capsys.readouterr()
    arguments = [config, '--work-dir', 'work', *pretrained(source, prefix='backbone.')]
    assert cli.train(arguments) == 0
    theirs = {
        key.removeprefix('backbone.'): value
        for key, value in get_state_dict(read_checkpoint(source)).items()
        if key.startswith('backbone.')
    }
    ours = {
        key.removeprefix('backbone.'): value
        for key, value in get_state_dict(read_checkpoint('work/epoch_1.pth')).items()
        if key.startswith('backbone.')
    }
    # All of the backbone, said once where the user looks.
    assert ours.keys() == theirs.keys()
    line = f'VisionTransformer: loaded {len(ours)} of {len(ours)} tensors from {source}'
    out = capsys.readouterr()
    assert (out.out + out.err).count(line) == 1
    table = theirs.pop('stem.pos_embed')  # of 2 x 2 patches, wanted 14 x 14
    assert table.shape[1] == 1 + 4 and ours['stem.pos_embed'].shape[1] == 1 + 196
    torch.testing.assert_close(
        ours.pop('stem.pos_embed'), resize_positions(table, 1, (2, 2), (14, 14))
    )
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=1e-7, msg=key)


@pytest.mark.parametrize(
    ('state', 'prefix', 'message'),
    [
        ({'backbone.conv1.weight': (8, 3, 7, 7)}, 'backbone.', 'none of its 1 tensors fits'),
        ({'backbone.stem.0.0.weight': (6, 3, 3, 3)}, 'body.', "no tensor name starts with 'body.'"),
        ({'backbone.stem.0.0.weight': (7, 3, 3, 3)}, 'backbone.', 'none of its 1 tensors fits'),
    ],
)
def test_weights_that_fit_nothing_end_a_detectors_training(capsys, state, prefix, message):
    config = write_small('pslt/{}_pslt-tiny', 'retinanet')
    torch.save({'state_dict': {k: torch.zeros(size) for k, size in state.items()}}, 'other.pth')
    assert cli.train([config, '--work-dir', 'work', *pretrained('other.pth', prefix=prefix)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: ') and 'other.pth' in error and message in error
    assert not list(Path('work').glob('*.pth'))


# --- Long schedules at several scales -------------------------------------------------------------


def test_every_family_has_a_long_schedule_for_both_detectors():
    found = {(path.parent.name, path.name.split('_')[0]) for path in LONG}
    families = ('castling', 'crossvit', 'lightweight_vit', 'pslt')
    assert found == {(f, d) for f in families for d in ('retinanet', 'mask-rcnn')}


@pytest.mark.parametrize('path', LONG, **named)
def test_a_long_schedule_differs_in_epochs_and_scales_alone(path):
    long, short = (
        Config.fromfile(p) for p in (path, path.with_name(path.name.replace('ms-3x', '1x')))
    )
    assert (long.train_cfg.pop('max_epochs'), short.train_cfg.pop('max_epochs')) == (36, 12)
    steps = [config.param_scheduler[1].pop('milestones') for config in (long, short)]
    assert steps == [[24, 33], [8, 11]]
    for pipelines in (long, short):
        pipelines.pop('train_pipeline')
    pipelines = [config.train_dataloader.dataset.pipeline for config in (long, short)]
    resizes = [pipeline.pop(2) for pipeline in pipelines]
    assert resizes[0] == {
        'type': 'RandomResize', 'scale': [(1333, 640), (1333, 800)], 'keep_ratio': True,
    }  # fmt: skip
    assert resizes[1] == {'type': 'Resize', 'scale': (1333, 800), 'keep_ratio': True}
    assert long.to_dict() == short.to_dict()


# --- The light detector ---------------------------------------------------------------------------


@pytest.mark.parametrize('path', [p for p in LIGHT if size_of(p) == 320], **named)
def test_a_light_detector_is_light(path):
    model = build(Config.fromfile(path).model, 'meta')
    found = flops_by_module(TensorPass(model), zeros(model, (3, 320, 320)))
    backbone, neck, head = (
        flops_of(f'model.{part}', found) for part in ('backbone', 'neck', 'bbox_head')
    )
    assert backbone + neck + head == sum(found[''].values())
    assert 0.5e9 < backbone < 2e9
    assert neck + head < 0.25e9
    # Depthwise throughout: only 1 x 1 convolutions mix channels.
    for part in (model.neck, model.bbox_head):
        for conv in part.modules():
            if isinstance(conv, nn.Conv2d):
                assert conv.kernel_size == (1, 1) or conv.groups == conv.in_channels


@pytest.mark.parametrize('path', LIGHT, **named)
def test_a_light_detector_sees_its_size_in_training_and_test(path):
    config, size = Config.fromfile(path), size_of(path)
    model = config.model
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        (pad,) = (step for step in loader.dataset.pipeline if step.type == 'Pad')
        assert pad.size == (size, size)
    (resize,) = model.data_preprocessor.batch_augments
    low, high = resize.random_size_range
    assert low < size < high and not (low % 32 or high % 32)
    assert list(build(model.neck).out_strides) == model.bbox_head.anchor_generator.strides


def test_batches_of_a_light_detector_change_size():
    from mmdet.testing import demo_mm_inputs

    torch.manual_seed(0)
    config = Config.fromfile(LIGHT[0]).model.data_preprocessor
    preprocessor = build(config)
    hub, sizes = MessageHub.get_instance('light'), set()
    for iteration in range(0, 80, 10):
        hub.update_info('iter', iteration + 9)  # the tenth of ten draws the next size
        data = preprocessor(demo_mm_inputs(1, [[3, 320, 320]], num_items=[2]), True)
        sizes.add(tuple(data['inputs'].shape[2:]))
        boxes = data['data_samples'][0].gt_instances.bboxes
        assert boxes.max() <= max(data['inputs'].shape[2:])
    assert len(sizes) > 3
    assert all(h == w and h % 32 == 0 and 224 <= h <= 416 for h, w in sizes)


# --- What a detector costs ------------------------------------------------------------------------


def test_two_stages_are_counted_with_all_boxes():
    """Closed forms: 1000 boxes through two linear layers, 100 through the mask head."""
    model = build(small_config('pslt/{}_pslt-tiny', 'mask-rcnn').model)
    model.test_cfg.rpn.max_per_img = 1000
    found = flops_by_module(TensorPass(model), zeros(model, (3, 64, 96)))
    boxes = 1000 * (32 * 49 * 64 + 64 * 64 + 64 * (3 + 1) + 64 * 4 * 3)
    masks = 100 * (4 * 14**2 * 9 * 32 * 32 + 28**2 * 32 * 32 + 28**2 * 32 * 3)
    assert flops_of('model.roi_head', found) == boxes + masks
    cells = sum(-(-64 // stride) * -(-96 // stride) for stride in (4, 8, 16, 32, 64))
    assert flops_of('model.rpn_head', found) == cells * (9 * 32 * 32 + 32 * 3 + 32 * 12)
    parts = ('backbone', 'neck', 'rpn_head', 'roi_head')
    assert sum(flops_of(f'model.{part}', found) for part in parts) == sum(found[''].values())


def test_the_tool_prints_a_detectors_parts(capsys):
    tool = load_tool('analysis_tools/get_flops')
    small_config('pslt/{}_pslt-tiny', 'retinanet').dump('small.py')
    assert tool.main(['small.py', '--shape', '64', '96']) == 0
    rows = dict(
        line.strip('│ ').split('│')[:2] for line in capsys.readouterr().out.splitlines()[4:-1]
        if line.startswith('│')
    )  # fmt: skip
    rows = {name.strip(): float(value.split()[0]) for name, value in rows.items()}
    parts = rows['backbone'] + rows['neck'] + rows['bbox_head']
    assert parts == pytest.approx(rows['all'], abs=2e-3) and rows['bbox_head'] > 0
    assert tool.main(['small.py', '--cfg-options', 'model.neck.in_chanels=3']) == 2
    assert 'in_chanels' in capsys.readouterr().err
