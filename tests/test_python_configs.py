"""Configs in pure Python, ``type`` a class: they work wherever those with names do."""

from __future__ import annotations

import re
from pathlib import Path

import coco_sets
import people
import pytest
import torch
from trainer import forget_runs, make_folder

from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config

CLASSIFIER = """
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmpretrain.datasets import CustomDataset, PackInputs
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead
from torch.optim import AdamW
from effvit_mm.backbones import PSLT

{scope}
model = dict(
    type=ImageClassifier,
    data_preprocessor=dict(num_classes=3, mean=[127.0] * 3, std=[60.0] * 3, to_rgb=True),
    backbone=dict(type=PSLT, arch=dict(embed_dims=12, depths=(1, 1, 1, 1), num_heads=(4, 8))),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=3, in_channels=192),
)
steps = [dict(type=LoadImageFromFile), dict(type=PackInputs)]
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=CustomDataset, data_root={data!r}, data_prefix='train', pipeline=steps))
val_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=CustomDataset, data_root={data!r}, data_prefix='val', pipeline=steps))
test_dataloader = val_dataloader
val_evaluator = dict(type=Accuracy, topk=(1,))
test_evaluator = val_evaluator
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=1))
"""

DETECTOR = """
from mmcv.ops import nms
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.evaluation import CocoMetric
from mmdet.models import FPN, DetDataPreprocessor, RetinaHead, RetinaNet
from mmdet.models.task_modules import AnchorGenerator, MaxIoUAssigner, PseudoSampler
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from torch.optim import SGD
from effvit_mm.backbones import PSLT
from effvit_mm.openmm.datasets.detection import CocoFolder

{scope}
model = dict(
    type=RetinaNet, data_preprocessor=dict(type=DetDataPreprocessor, pad_size_divisor=32),
    backbone=dict(
        type=PSLT, arch=dict(embed_dims=12, depths=(1, 1, 1, 1), num_heads=(4, 8)),
        out_indices=(1, 2, 3), final_norm=False,
    ),
    neck=dict(type=FPN, in_channels=[48, 96, 192], out_channels=8, num_outs=3),
    bbox_head=dict(
        type=RetinaHead, num_classes=3, in_channels=8, stacked_convs=1, feat_channels=8,
        anchor_generator=dict(
            type=AnchorGenerator, octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
            strides=[8, 16, 32],
        ),
    ),
    train_cfg=dict(
        assigner=dict(type=MaxIoUAssigner, pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
                      ignore_iof_thr=-1),
        sampler=dict(type=PseudoSampler), allowed_border=-1, pos_weight=-1, debug=False,
    ),
    test_cfg=dict(
        nms_pre=50, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10
    ),
)
steps = [
    dict(type=LoadImageFromFile), dict(type=Resize, scale=(96, 72), keep_ratio=True),
    dict(type=LoadAnnotations, with_bbox=True), dict(type=PackDetInputs),
]
dataset = dict(
    type=CocoFolder, data_root={data!r}, ann_file='train.json', data_prefix=dict(img='images')
)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(**dataset, pipeline=steps),
)
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        **dataset, test_mode=True, pipeline=[*steps[:3], dict(type=PackDetInputs, meta_keys=keys)]
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=CocoMetric, ann_file={data!r} + '/train.json', metric='bbox')
test_evaluator = val_evaluator
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=1e-4))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=1))
"""

REID = """
from mmcv.transforms import RandomFlip, Resize
from mmengine.dataset import DefaultSampler
from mmengine.optim import OptimWrapper
from mmpretrain.datasets import PackInputs
from torch.optim import AdamW
from effvit_mm.attention import LinearAngularAttention
from effvit_mm.backbones import VisionTransformer
from effvit_mm.openmm.datasets import LoadImage
from effvit_mm.openmm.reid.datasets import ReIDDataset
from effvit_mm.openmm.reid.losses import SoftmaxLoss, TripletLoss
from effvit_mm.openmm.reid.metric import ReIDMetric
from effvit_mm.openmm.reid.model import ReIDModel
from effvit_mm.openmm.reid.sampler import PKSampler
from effvit_mm.reid.pooling import GeMPooling

{scope}
model = dict(
    type=ReIDModel,
    backbone=dict(
        type=VisionTransformer, patch_size=8, img_size=32,
        arch=dict(embed_dims=24, depths=(1, 1, 1, 1), num_heads=3, mlp_ratio=2),
        attention=dict(type=LinearAngularAttention),
    ),
    pooling=dict(type=GeMPooling),
    classifier=dict(type=SoftmaxLoss), metric_loss=dict(type=TripletLoss),
)
keys = ('img_path', 'pid', 'camid', 'dsetid', 'subset', 'sample_idx')
steps = [
    dict(type=LoadImage), dict(type=Resize, scale=(32, 64)), dict(type=PackInputs, meta_keys=keys)
]
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type=PKSampler, num_persons=4, num_instances=2),
    dataset=dict(type=ReIDDataset, data_root={data!r}, split='train', pipeline=steps),
)
val_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=ReIDDataset, data_root={data!r}, split='test', pipeline=steps),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=ReIDMetric)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=1)
"""

KINDS = {'classifier': CLASSIFIER, 'detector': DETECTOR, 'reid': REID}
SETS = {'classifier': make_folder, 'detector': coco_sets.make_coco, 'reid': people.make_people}
# A scope is needed for names alone.
SCOPES = {'classifier': "default_scope = 'mmpretrain'", 'detector': 'default_scope = None'}


@pytest.fixture(scope='module', params=KINDS)
def trained(tmp_path_factory, request) -> Path:
    """A folder with a config and ``w/``, where it was trained."""
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    SETS[kind](folder / 'data')
    text = KINDS[kind].format(scope=SCOPES.get(kind, ''), data=str(folder / 'data'))
    (folder / f'{kind}.py').write_text(text)
    run(folder, 'train', f'{kind}.py')
    return folder


def run(folder: Path, tool: str, config: str, *arguments: object, code: int = 0) -> None:
    forget_runs()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        where = [] if '--work-dir' in arguments else ['--work-dir', 'w' if tool == 'train' else 't']
        assert getattr(cli, tool)([config, *map(str, arguments), *where]) == code


def config_of(folder: Path) -> Path:
    return next(folder.glob('*.py'))


def test_training_has_our_hooks_and_reads_what_it_wrote(trained):
    config = config_of(trained)
    checkpoint = torch.load(trained / 'w' / 'epoch_1.pth', weights_only=False)
    # Our hook's order of writing, not mmengine's.
    assert 'effvit_mm/outdated_checkpoints' in checkpoint['message_hub']['runtime_info']
    run(trained, 'train', config.name, '--resume')
    run(trained, 'train', config.name, '--amp', '--work-dir', 'amp', '--cfg-options',
        'default_hooks.checkpoint.save_best=auto')  # fmt: skip
    for name in (config.name, f'w/{config.name}'):
        run(trained, 'test', name, 'w/epoch_1.pth')


def test_faults_are_named(trained, capfd):
    config = config_of(trained)
    option = ('--cfg-options', 'optim_wrapper.optimizer.wd=1', '--work-dir', 'x')
    run(trained, 'train', config.name, *option, code=2)
    assert 'optim_wrapper.optimizer.wd=1' in capfd.readouterr().err


def test_flags(trained):
    config = config_of(trained)
    flags = {
        'classifier': ['--deploy', '--tta', '--show-dir', 'p', '--out', 'o.json'],
        'detector': ['--show-dir', 'p', '--out', 'o.json'],
        'reid': ['--rerank', '--tta', '--show-dir', 'p', '--out', 'x.npz'],
    }[config.stem]
    run(trained, 'test', config.name, 'w/epoch_1.pth', *flags)


def test_inference_and_export(trained):
    from effvit_mm.inference import Detector, ReIDExtractor
    from effvit_mm.inference.export import image_size, load_network

    config = config_of(trained)
    checkpoint = trained / 'w' / 'epoch_1.pth'
    for path in (config, trained / 'w' / config.name):
        if config.stem == 'detector':
            found = Detector(path, checkpoint)(str(trained / 'data' / 'images'))
            assert len(found) == 3
        if config.stem == 'reid':
            images = str(trained / 'data' / 'bounding_box_test')
            assert len(ReIDExtractor(path, checkpoint)(images).features)
            assert image_size(load_config(str(path), [])) == (64, 32)
        assert load_network(str(path), checkpoint, size=(64, 96)) is not None


def test_bare_networks_get_what_the_framework_asks_of_them(tmp_path):
    text = CLASSIFIER.format(scope='', data='nowhere')
    text += "model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='x.pth')\n"
    (tmp_path / 'c.py').write_text(text)
    cfg = load_config(str(tmp_path / 'c.py'), ['runner_type=effvit_mm.Runner'])
    assert cfg.model.backbone.type == 'effvit_mm.PSLT'
    assert cfg.default_scope == 'mmpretrain'


@pytest.mark.parametrize(('name', 'other'), [('PSLT', 'PSLTT'), ('mmcv.transforms', 'mmcv.no')])
def test_a_class_that_does_not_exist_is_named(tmp_path, capfd, name, other):
    text = CLASSIFIER.format(scope='', data='nowhere').replace(name, other)
    (tmp_path / 'wrong.py').write_text(text)
    run(tmp_path, 'train', 'wrong.py', code=2)
    assert re.search(
        rf'error: config .*wrong\.py, line \d+: .*{other}.*: .*', capfd.readouterr().err
    )
