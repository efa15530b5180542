"""For the tests of re-ID: small models of all families, a tiny set of people, and a config that
learns them in seconds."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import MODELS, DefaultScope
from students import CASTLING, CROSSVIT, LEVIT, MVITV2, PSLT, SAMPLING, TOKEN, VIT

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = (64, 32)
SOFTMAX = {'type': 'effvit_mm.SoftmaxLoss'}
TRIPLET = {'type': 'effvit_mm.TripletLoss'}
TOKENS = {'type': 'effvit_mm.TokenPooling'}
GEM = {'type': 'effvit_mm.GeMPooling'}
# Backbone, pooling, length of the feature.
FAMILIES = {
    'PSLT': ({'type': 'effvit_mm.PSLT', 'arch': PSLT}, None, 192),
    'PSLT, GeM': ({'type': 'effvit_mm.PSLT', 'arch': PSLT}, GEM, 192),
    'CrossViT': (
        {'type': 'effvit_mm.CrossViT', 'arch': CROSSVIT, 'patch_sizes': (12, 16), **TOKEN},
        TOKENS,
        72,
    ),
    'DeiT': ({'type': 'effvit_mm.VisionTransformer', 'arch': VIT, **TOKEN}, TOKENS, 24),
    'DeiT, its map': ({'type': 'effvit_mm.VisionTransformer', 'arch': VIT}, None, 24),
    'distilled': (
        {'type': 'effvit_mm.VisionTransformer', 'arch': VIT, 'distilled': True, **TOKEN},
        TOKENS,
        48,
    ),
    'Castling-DeiT': (
        {'type': 'effvit_mm.VisionTransformer', 'arch': VIT, **TOKEN, **CASTLING},
        TOKENS,
        24,
    ),
    'lightweight': (
        {'type': 'effvit_mm.VisionTransformer', 'arch': VIT, **TOKEN, **SAMPLING},
        TOKENS,
        24,
    ),
    'Castling-LeViT': ({'type': 'effvit_mm.LeViT', 'arch': LEVIT, **CASTLING}, None, 32),
    'Castling-MViTv2': ({'type': 'effvit_mm.MViTv2', 'arch': MVITV2, **CASTLING}, None, 96),
}
SMALL = FAMILIES['PSLT'][0]


def build_model(backbone=SMALL, pooling=None, persons=3, **kwargs):
    torch.manual_seed(0)
    parts = {'classifier': SOFTMAX, 'metric_loss': TRIPLET, **kwargs}
    config = {
        'type': 'effvit_mm.ReIDModel',
        'backbone': backbone,
        'pooling': pooling,
        'num_classes': persons,
        **parts,
    }
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(copy.deepcopy(config))


CONFIG = """
_base_ = [
    '{base}/models/reid_pslt-tiny.py',
    '{base}/schedules/adamw_14e_reid.py',
    '{base}/default_runtime_reid.py',
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='effvit_mm.VisionTransformer',
        arch=dict(embed_dims=24, depths=(1, 1, 1, 1), num_heads=3, mlp_ratio=2),
        patch_size=8,
        img_size=32,
    )
)
keys = ('img_path', 'pid', 'camid', 'dsetid', 'subset', 'sample_idx')
train_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=(32, 64)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs', meta_keys=keys),
]
test_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=(32, 64)),
    dict(type='PackInputs', meta_keys=keys),
]
data_root = '{root}'
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(
        type='effvit_mm.ReIDDataset', data_root=data_root, split='train', pipeline=train_pipeline
    ),
    sampler=dict(type='effvit_mm.PKSampler', num_persons=4, num_instances=2),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(
        type='effvit_mm.ReIDDataset', data_root=data_root, split='test', pipeline=test_pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='effvit_mm.ReIDMetric')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [dict(type='ConstantLR', factor=1.0)]
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=1)
"""


def draw_person(pid: int, generator: np.random.Generator) -> np.ndarray:
    """Two colours that are the person's, on a noisy ground: (H, W, 3) uint8."""
    height, width = SIZE
    image = generator.integers(90, 160, (height, width, 3), dtype=np.uint8)
    own = np.random.default_rng(pid)
    left = int(generator.integers(4, 12))
    for top, bottom in ((10, 32), (32, 60)):
        image[top:bottom, left : left + 16] = own.integers(0, 256, 3)
    return image


def make_people(root: Path, train: int = 5, test: int = 4, images: int = 2, first: int = 1) -> Path:
    """Market-1501's layout, two cameras; persons to test on come after those to train on."""
    generator = np.random.default_rng(first)
    people = range(first, first + train + test)
    for pid in people:
        for camera in (1, 2):
            for number in range(images):
                folder = 'bounding_box_train'
                if pid >= first + train:
                    folder = 'bounding_box_test' if number or camera == 2 else 'query'
                path = root / folder / f'{pid:04d}_c{camera}s1_{number:06d}_00.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), draw_person(pid, generator))
    return root


def write_people_config(path: Path, root: Path, extra: str = '') -> Path:
    """The config above as a file."""
    base = REPOSITORY / 'configs' / '_base_'
    path.write_text(CONFIG.replace('{base}', str(base)).replace('{root}', str(root)) + extra)
    return path
