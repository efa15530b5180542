"""Shipped configs made so small that two iterations take about a second.

Data sets are tiny stand-ins in the layout that the config's class reads, images have about 64
pixels, backbones the structure of their family and a few channels. All else is the config's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coco_sets
import cv2
import numpy as np
import yolo_sets
from detectors import FAMILIES
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import DefaultScope
from people import make_people

from effvit_mm.openmm.config.checks import returned_maps

from . import ROOT

CONFIGS = sorted(p for p in (ROOT / 'configs').glob('*/*.py') if p.parent.name != '_base_')
SPLITS = ('train', 'val', 'test')
CLASSES = 10
# Of backbones' classes: what makes them small.
SMALL = {
    'PSLT': FAMILIES['pslt/{}_pslt-tiny'],
    'CrossViT': {'arch': FAMILIES['crossvit/{}_crossvit-9']['arch']},
    'LeViT': FAMILIES['castling/{}_castling-levit-128s'],
    'VisionTransformer': {'arch': FAMILIES['castling/{}_castling-deit-tiny']['arch']},
    'MViTv2': FAMILIES['castling/{}_castling-mvitv2-tiny'],
}
SIZES = ('scale', 'scales', 'crop_size', 'size', 'img_scale')
SMALL_TEACHER = {'model': 'levit_128s', 'untrained': True}
SIDE = 64


def make_data(root: Path) -> Path:
    """All stand-ins, each in a folder of ``root``."""
    coco_sets.make_coco(root / 'coco_folder', images=4, splits=('train', 'val'))
    (root / 'coco_folder' / 'annotations').mkdir()
    for split in ('train', 'val'):
        text = (root / 'coco_folder' / f'{split}.json').read_text()
        (root / 'coco_folder' / 'annotations' / f'{split}.json').write_text(text)
    _make_coco_2017(root)
    yolo_sets.make_yolo(root / 'yolo', images=4)
    make_people(root / 'reid', train=2, test=2)
    generator = np.random.default_rng(0)
    for split, number in (('train', 2), ('val', 1), ('test', 1)):
        for label in range(CLASSES):
            folder = root / 'classes' / split / f'{label}'
            folder.mkdir(parents=True)
            for index in range(number):
                image = generator.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f'{index}.png'), image)
    return root


def _make_coco_2017(root: Path) -> None:
    """The same pictures as COCO's own layout, with its 80 names."""
    data = json.loads((root / 'coco_folder' / 'train.json').read_text())
    names = CocoDataset.METAINFO['classes']
    data['categories'] = [{'id': i + 1, 'name': name} for i, name in enumerate(names)]
    for item in data['annotations']:
        item['category_id'] //= 10
    for split in ('train', 'val'):
        folder = root / 'coco' / f'{split}2017'
        folder.mkdir(parents=True)
        for image in data['images']:
            content = (root / 'coco_folder' / 'images' / image['file_name']).read_bytes()
            (folder / image['file_name']).write_bytes(content)
        place = root / 'coco' / 'annotations' / f'instances_{split}2017.json'
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(data))


def shrunk(path: Path, data: Path) -> dict[str, Any]:
    """A shipped config, small and on stand-ins, as plain dicts and lists."""
    cfg = Config.fromfile(path)
    # Names of the file's own are in its parts already.
    own = [key for key in cfg if key.endswith('_pipeline') or key in OWN_NAMES]
    for key in own:
        if key != 'tta_pipeline':
            cfg.pop(key)
    _shrink_model(cfg)
    for split in SPLITS:
        _shrink_loader(cfg[f'{split}_dataloader'], split, data)
    for evaluators in (cfg.val_evaluator, cfg.test_evaluator):
        for node in evaluators if isinstance(evaluators, list) else [evaluators]:
            if 'ann_file' in node:
                node.ann_file = _annotations(cfg.val_dataloader.dataset)
    if cfg.train_dataloader.dataset.get('type') == 'effvit_mm.CocoFolder':
        for node in dicts_of(cfg.model):  # of the digits, or the walkers
            if node.get('num_classes'):
                node['num_classes'] = len(coco_sets.NAMES)
    cfg.train_cfg.val_interval = 1
    cfg.load_from = None
    cfg.env_cfg.pop('cudnn_benchmark', None)
    cfg.data_checks = {**(cfg.get('data_checks') or {}), 'allow_empty_classes': True}
    cfg.randomness = {'seed': 1}
    return plain(cfg)


OWN_NAMES = (
    'dataset_type', 'data_root', 'meta_keys', 'backbone', 'source_args', 'train_annotations',
    'val_annotations', 'test_annotations', 'train_images', 'val_images', 'image_size', 'norm_cfg',
    'market1501', 'msmt17', 'base_batch_size',
)  # fmt: skip


def plain(value: Any) -> Any:
    """Dicts, lists and tuples in the place of mmengine's."""
    if isinstance(value, Config | dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value


def _shrink_model(cfg: Config) -> None:
    model = cfg.model
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        before = returned_maps(model.backbone)
        kind = model.backbone.type.rpartition('.')[2]
        if isinstance(model.backbone.get('arch'), str):
            model.backbone.update(SMALL.get(kind, {}))
        if len(model.backbone.get('sampled_blocks', ())) > 2:
            model.backbone.sampled_blocks = (1, 3)
        if kind == 'ResNet':
            model.backbone.pop('init_cfg', None)
        after = returned_maps(model.backbone)
    if before is not None:
        old, new = before[0], after[0]
        exchange = {old[-1]: new[-1], tuple(old): tuple(new)}
        for node in dicts_of([model[key] for key in ('neck', 'head', 'pooling') if key in model]):
            for key in ('in_channels', 'widths'):
                value = node.get(key)
                value = tuple(value) if isinstance(value, list | tuple) else value
                if value in exchange and not isinstance(node.get(key), bool):
                    small = exchange[value]
                    node[key] = list(small) if isinstance(small, tuple) else small
    for node in dicts_of([model, cfg.get('data_preprocessor') or {}]):
        if node.get('num_classes') == 1000:  # ImageNet's
            node['num_classes'] = CLASSES
    if 'teacher' in model:
        model.teacher = SMALL_TEACHER
    for node in dicts_of(model):
        if node.get('init_cfg') and 'checkpoint' in node['init_cfg']:
            del node['init_cfg']
        if node.get('type') == 'RandomSampler' and 'num' in node:
            node['num'] = 16
        for key in ('nms_pre', 'max_per_img'):
            if key in node:
                node[key] = min(node[key], 50)


def _shrink_loader(loader: Any, split: str, data: Path) -> None:
    loader.update(num_workers=0, batch_size=2)
    sampler = loader.get('sampler') or {}
    if sampler.get('type', '').endswith('PKSampler'):
        sampler.update(num_persons=2, num_instances=2)
        loader.batch_size = 4
    dataset = loader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    for node in dataset.get('datasets') or [dataset]:
        _replace_data(node, split, data)
    for node in dicts_of(loader):
        for key in SIZES:
            if key in node:
                node[key] = _smaller(node[key])
        if 'filter_cfg' in node and 'min_size' in node['filter_cfg']:
            node['filter_cfg']['min_size'] = 1


def _replace_data(node: Any, split: str, data: Path) -> None:
    kind = node.type.rpartition('.')[2]
    place = 'train' if split == 'train' else 'val'
    if kind == 'ReIDDataset':
        node.update(source='folder', data_root=str(data / 'reid'))
        node.pop('source_args', None)
    elif kind == 'CocoDataset':
        node.data_root = str(data / 'coco')
    elif kind == 'YoloFolder':
        node.data_root = str(data / 'yolo')
    elif kind in ('CocoFolder', 'DigitScenes', 'WalkerScenes'):
        for key in ('split', 'indices', 'with_masks'):
            node.pop(key, None)
        names = {'ann_file': f'{place}.json', 'classes_from': 'train.json'}
        node.update(
            type='effvit_mm.CocoFolder', data_root=str(data / 'coco_folder'),
            data_prefix={'img': 'images'}, **names,
        )  # fmt: skip
    else:
        indices = node.get('indices')
        node.update(type='effvit_mm.ImageFolder', data_root=str(data / 'classes'), split=place)
        if indices is not None:
            node.pop('indices')
        if not node.pipeline[0]['type'].endswith('LoadImage'):  # it held its pictures
            node.pipeline.insert(0, {'type': 'effvit_mm.LoadImage'})


def _annotations(dataset: Any) -> str:
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return f'{dataset.data_root}/{dataset.ann_file}'


def _smaller(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_smaller, value))
    if isinstance(value, int) and not isinstance(value, bool) and value > SIDE:
        return max(SIDE, value // 10)
    return value


def dicts_of(value: Any) -> Iterator[dict]:
    """A dict, and those within."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for item in value if isinstance(value, list | tuple) else ():
        yield from dicts_of(item)
