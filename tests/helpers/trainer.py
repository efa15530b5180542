"""A data set and a config that train in seconds, for the tests of the trainer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

CLASSES = ('bars', 'dots', 'rings')

CONFIG = """
_base_ = {base!r}
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=3, mean=[127.0] * 3, std=[60.0] * 3, to_rgb=True),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, stem_channels=8, num_stages=2, strides=(1, 2),
        dilations=(1, 1), out_indices=(1,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='StackedLinearClsHead', num_classes=3, in_channels=16, mid_channels=[8],
        dropout_rate=0.2, topk=(1,),
    ),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
dataset = dict(type='CustomDataset', data_root={data!r}, data_prefix='train', pipeline=pipeline)
train_dataloader = dict(
    batch_size=8, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=True)
)
val_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root={data!r}, data_prefix='val', pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=3)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=2, begin=1, end=3, by_epoch=True),
]
default_hooks = dict(logger=dict(interval=2))
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
randomness = dict(seed=3)
auto_scale_lr = dict(base_batch_size=8)
"""

REPOSITORY = Path(__file__).resolve().parents[2]


def draw(kind: int, generator: np.random.Generator, size: int = 32) -> np.ndarray:
    """A noisy picture of one of the classes."""
    image = generator.integers(0, 60, (size, size, 3), dtype=np.uint8)
    x, y = (int(v) for v in generator.integers(8, 24, 2))
    if kind == 0:
        image[:, x - 2 : x + 2] = 230
    elif kind == 1:
        cv2.circle(image, (x, y), 4, (230, 230, 230), -1)
    else:
        cv2.circle(image, (x, y), 7, (230, 230, 230), 1)
    return image


def make_folder(root: Path, train: int = 8, val: int = 4, size: int = 32) -> Path:
    """``root/{train,val}/<class>/*.png``."""
    generator = np.random.default_rng(0)
    for split, count in (('train', train), ('val', val)):
        for kind, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(str(folder / f'{index}.png'), draw(kind, generator, size))
    return root


def write_config(path: Path, data: Path, extra: str = '', **replacements: str) -> Path:
    """The config above as a file; ``extra`` is appended, ``replacements`` are text to text."""
    base = str(REPOSITORY / 'configs' / '_base_' / 'default_runtime.py')
    text = CONFIG.format(base=base, data=str(data)) + extra
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def forget_runs() -> None:
    """Drop mmengine's loggers and the like, which runs started in the same second would share."""
    for kind in (DefaultScope, MMLogger, MessageHub, Visualizer, *Visualizer.__subclasses__()):
        kind._instance_dict.clear()
