"""A small COCO-style set, written anew for each test that spoils it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

NAMES = ('red', 'white', 'platelet')
SIZE = (48, 36)  # width, height


def square(x: float, y: float, width: float, height: float) -> list[list[float]]:
    """A box as a polygon."""
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def make_coco(root: Path, images: int = 3, splits: tuple[str, ...] = ('train',)) -> dict:
    """``root/images/*.png`` with two objects each, ``root/<split>.json``; gives the annotations."""
    data: dict = {
        'categories': [{'id': 10 * (i + 1), 'name': name} for i, name in enumerate(NAMES)],
        'images': [],
        'annotations': [],
    }
    (root / 'images').mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(images):
        name = f'{number}.png'
        picture = generator.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'images' / name), picture)
        data['images'].append(
            {'id': number, 'file_name': name, 'width': SIZE[0], 'height': SIZE[1]}
        )
        for x in (2, 22):
            count = len(data['annotations'])
            data['annotations'].append({
                'id': count + 1, 'image_id': number, 'category_id': 10 * (count % 3 + 1),
                'bbox': [x, 4, 18, 20], 'area': 360, 'iscrowd': 0,
                'segmentation': square(x, 4, 18, 20),
            })  # fmt: skip
    for split in splits:
        write(root, data, split)
    return data


def write(root: Path, data: dict, split: str = 'train') -> Path:
    """The annotation file of a split."""
    path = root / f'{split}.json'
    path.write_text(json.dumps(data))
    return path


CONFIG = """
_base_ = {base!r}
default_scope = 'mmdet'
visualizer = dict(type='DetLocalVisualizer')
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=18, base_channels=4, num_stages=4, out_indices=(1, 2, 3),
        frozen_stages=-1,
    ),
    neck=dict(type='FPN', in_channels=[8, 16, 32], out_channels=8, num_outs=3),
    bbox_head=dict(
        type='RetinaHead', num_classes=3, in_channels=8, stacked_convs=1, feat_channels=8,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
            strides=[8, 16, 32],
        ),
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
            ignore_iof_thr=-1,
        ),
        sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1, debug=False,
    ),
    test_cfg=dict(nms_pre=50, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=10),
)
pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=False),
    dict(type='PackDetInputs', meta_keys=(
        'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=3, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='effvit_mm.CocoFolder', data_root={data!r}, ann_file='train.json',
        data_prefix=dict(img='images'), filter_cfg=dict(filter_empty_gt=True),
        pipeline=pipeline,
    ),
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-4))
train_cfg = dict(by_epoch=True, max_epochs=1)
custom_hooks = []
"""


def write_config(path: Path, data: Path) -> Path:
    """A config that trains a very small RetinaNet on ``data``."""
    base = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'default_runtime.py'
    path.write_text(CONFIG.format(base=str(base), data=str(data)))
    return path


# Scores of every height count, else a network that has learned nothing finds nothing.
VALIDATION = """
_base_ = './small.py'
resize = dict(type='Resize', scale=(96, 72), keep_ratio=True)
val_pipeline = [_base_.pipeline[0], resize, *_base_.pipeline[1:]]
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='effvit_mm.CocoFolder', data_root={data!r}, ann_file='val.json',
        data_prefix=dict(img='images'), test_mode=True, pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file={data!r} + '/val.json', metric='bbox')
test_evaluator = val_evaluator
val_cfg = test_cfg = dict()
model = dict(test_cfg=dict(score_thr=0.0))
randomness = dict(seed=1)
train_dataloader = dict(batch_size=1)
"""


def make_config(folder: Path, extra: str = '') -> Path:
    """A config with validation, on 5 images: two processes do not share them evenly."""
    data = folder / 'data'
    make_coco(data, images=5, splits=('train', 'val'))
    write_config(folder / 'small.py', data)
    path = folder / 'detector.py'
    path.write_text(VALIDATION.format(data=str(data)) + extra)
    return path
