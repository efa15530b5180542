"""Small trained models of the three tasks: a config and a checkpoint each, and images for them."""

from __future__ import annotations

from pathlib import Path

import coco_sets
import cv2
import numpy as np
import torch
from networks import as_trained
from people import write_people_config
from small_detectors import CLASSES as OBJECTS
from small_detectors import EXTRA, save_checkpoint
from students import DIGITS, VIT
from trainer import forget_runs

import effvit_mm
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.trained import build_classifier, build_reid

CLASSES = ('ant', 'bee', 'cat', 'dog', 'elk', 'fox', 'gnu')
CONFIG = f"""
_base_ = [{str(DIGITS)!r}]
model = dict(_delete_=True, type='ImageClassifier', backbone=dict(
    type='effvit_mm.VisionTransformer', arch={VIT}, patch_size=8, img_size=40,
    out_type='cls_token'), head=dict(type='effvit_mm.LinearClsHead', num_classes=7,
    in_channels=24, topk=(1,)))
data_preprocessor = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], to_rgb=True)
pipeline = [
    dict(type='effvit_mm.LoadImage'), dict(type='ResizeEdge', scale=46, edge='short'),
    dict(type='CenterCrop', crop_size=40), dict(type='PackInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = val_dataloader
"""
Model = tuple[str, str]


def make_classifier(root: Path) -> Model:
    """Of seven classes; writes ``config.py`` and ``c.pth`` into a folder."""
    (root / 'config.py').write_text(CONFIG)
    torch.manual_seed(0)
    model = as_trained(build_classifier(load_config(str(root / 'config.py'), []), 'a'))
    meta = {'dataset_meta': {'classes': CLASSES}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, root / 'c.pth')
    return str(root / 'config.py'), str(root / 'c.pth')


def make_detector(root: Path) -> Model:
    """Of three classes, one stage, whose least score is 0."""
    config = coco_sets.write_config(root / 'config.py', root / 'nowhere')
    config.write_text(config.read_text() + EXTRA)
    meta = {'dataset_meta': {'classes': OBJECTS}}
    save_checkpoint(load_config(str(config), []), root / 'c.pth', meta)
    return str(config), str(root / 'c.pth')


def make_reid(root: Path) -> Model:
    """Of features of 24 numbers."""
    config = write_people_config(root / 'config.py', root / 'nowhere')
    torch.manual_seed(0)
    model = as_trained(build_reid(load_config(str(config), []), 'a'))
    torch.save({'state_dict': model.state_dict()}, root / 'c.pth')
    return str(config), str(root / 'c.pth')


# For each task: what makes a model of it, its inferencer, and options of a call.
TASKS = {
    'classification': (make_classifier, effvit_mm.Classifier, {}),
    'detection': (make_detector, effvit_mm.Detector, {'score_thr': 0.0}),
    're-identification': (make_reid, effvit_mm.ReIDExtractor, {}),
}


def make_models(root: Path) -> dict[str, Model]:
    """One of each task."""
    made = {}
    for task, (make, _, _) in TASKS.items():
        (root / task).mkdir()
        made[task] = make(root / task)
    forget_runs()
    return made


def photographs(count: int, size: tuple[int, int] = (36, 48), seed: int = 0) -> list[np.ndarray]:
    """(H, W, 3) uint8, BGR: spots of colour, no two alike."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [cv2.resize(one, size[::-1], interpolation=cv2.INTER_CUBIC) for one in coarse]
