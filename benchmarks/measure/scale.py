"""A COCO-sized set that is made, and what it takes to begin with it and to judge it.

Each measurement is a function that runs in a process of its own (:func:`.isolation.run_isolated`).
"""

from __future__ import annotations

import json
import os
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .isolation import begin_as_tool
from .memory import resident_bytes

SIZE = (640, 480)  # pixels of every image: width, height
CLASSES = 80
POINTS = 20  # of a polygon
LINKS = 30_000  # of one file: ext4 allows 65,000
OURS, FASTER, THEIRS = 'effvit_mm', 'effvit_mm, FasterCocoMetric', 'mmdet'


class Work(NamedTuple):
    """What a measurement gave.

    Attributes:
        seconds: Of the processor, all threads, from the config's part to the end; everything was
            imported before. What else the machine does hardly counts in it.
        begin: Resident bytes before it.
        figures: What came out, to see that both did the same.
    """

    seconds: float
    begin: int
    figures: dict[str, float]


def class_names() -> list[str]:
    """Of the categories."""
    return [f'kind {number}' for number in range(1, CLASSES + 1)]


def make_set(folder: Path, images: int, boxes: int, name: str) -> Path:
    """``folder/name.json`` as COCO's ``instances_*.json``, and ``folder/name/*.jpg``.

    The images are hard links of a few files of one size.
    """
    import cv2

    target, file = folder / name, folder / f'{name}.json'
    if file.exists():
        return file
    target.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    names = [f'{number:012}.jpg' for number in range(1, images + 1)]
    picture = cv2.resize(generator.integers(0, 255, (12, 16, 3), dtype=np.uint8), SIZE)
    for number, one in enumerate(names):
        if number % LINKS == 0:
            first = target / one
            first.unlink(missing_ok=True)
            cv2.imwrite(str(first), picture)
        elif not (target / one).exists():
            os.link(first, target / one)
    temporary = file.with_suffix('.part')
    with open(temporary, 'w') as out:
        out.write('{"info": {"year": 2017}, "licenses": [{"id": 1, "name": "none"}], "images": [')
        out.write(', '.join(map(_image, range(1, images + 1), names)))
        out.write('], "annotations": [')
        for number in range(boxes):
            out.write((', ' if number else '') + _annotation(generator, number, images))
        categories = [
            {'supercategory': 'kind', 'id': number, 'name': one}
            for number, one in enumerate(class_names(), 1)
        ]
        out.write(f'], "categories": {json.dumps(categories)}}}')
    temporary.rename(file)
    return file


def _image(number: int, name: str) -> str:
    address = f'http://images.example.org/train2017/{name}'
    return json.dumps({
        'license': 1, 'file_name': name, 'coco_url': address, 'height': SIZE[1], 'width': SIZE[0],
        'date_captured': '2013-11-14 17:02:52', 'flickr_url': address, 'id': number,
    })  # fmt: skip


def _annotation(generator: np.random.Generator, number: int, images: int) -> str:
    width, height = generator.uniform(8, 200, 2)
    x, y = generator.uniform(0, (SIZE[0] - width, SIZE[1] - height))
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    shape = np.stack([1 + np.cos(angles), 1 + np.sin(angles)], 1) / 2
    polygon = (shape * (width, height) + (x, y)).round(2).ravel().tolist()
    return json.dumps({
        'segmentation': [polygon], 'area': round(width * height * 0.75, 4), 'iscrowd': 0,
        'image_id': number % images + 1, 'bbox': [round(v, 2) for v in (x, y, width, height)],
        'category_id': int(generator.integers(1, CLASSES + 1)), 'id': number + 1,
    })  # fmt: skip


# From start to first batch ------------------------------------------------------------------------


def measure_start(kind: str, file: Path, masks: bool) -> Work:
    """Check (ours), read and filter a training set, and give the first batch of two images."""
    begin_as_tool(torch.get_num_threads())
    with redirect_stdout(StringIO()):
        import mmdet.datasets  # noqa: F401 - imported before the clock
        from mmengine.registry import init_default_scope
        from mmengine.runner import Runner
    init_default_scope('mmdet')
    loads = 'LoadImageFromFile'
    if kind == OURS:
        from effvit_mm.openmm.config.own_sets import take_own_sets
        from effvit_mm.openmm.data_checks.detection import check_detection_sets
        from effvit_mm.openmm.datasets import detection  # noqa: F401 - imported before the clock

        loads = 'effvit_mm.LoadImage'
    pipeline = [
        {'type': loads},
        {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': masks},
        {'type': 'PackDetInputs'},
    ]
    loader = {
        'batch_size': 2, 'num_workers': 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        'batch_sampler': {'type': 'AspectRatioBatchSampler'},
        'dataset': {
            'type': 'CocoDataset', 'data_root': str(file.parent), 'ann_file': file.name,
            'data_prefix': {'img': f'{file.stem}/'}, 'pipeline': pipeline,
            'filter_cfg': {'filter_empty_gt': True, 'min_size': 32},
            'metainfo': {'classes': class_names()},
        },
    }  # fmt: skip
    begin, start = resident_bytes(), time.process_time()
    if kind == OURS:
        take_own_sets(loader)
        check_detection_sets(loader, 'train_dataloader', {})
    built = Runner.build_dataloader(loader, seed=0)
    batch = next(iter(built))
    seconds = time.process_time() - start
    boxes = sum(len(sample.gt_instances) for sample in batch['data_samples'])
    return Work(seconds, begin, {'images': len(built.dataset), 'boxes of the batch': boxes})


# Validation ---------------------------------------------------------------------------------------


def make_detections(file: Path, count: int) -> list[dict]:
    """What a detector could have found: per image a share of ``count`` detections as mmdet's.

    Three in ten images' worth are boxes of the truth, moved; the others are anywhere.
    """
    data = json.loads(file.read_text())
    generator = np.random.default_rng(1)
    truth: dict[int, list] = {image['id']: [] for image in data['images']}
    for item in data['annotations']:
        truth[item['image_id']].append((*item['bbox'], item['category_id'] - 1))
    each, samples = count // len(truth), []
    for number, items in truth.items():
        boxes = generator.uniform(8, 200, (each, 4))
        boxes[:, :2] = generator.uniform(0, (SIZE[0] - 200, SIZE[1] - 200), (each, 2))
        labels = generator.integers(0, CLASSES, each)
        scores = generator.uniform(0, 0.6, each)
        known = np.array(items, dtype=float).reshape(-1, 5)[:each]
        boxes[: len(known)] = known[:, :4] + generator.normal(0, 4, (len(known), 4))
        labels[: len(known)] = known[:, 4]
        scores[: len(known)] = generator.uniform(0.2, 1, len(known))
        boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:].clip(1)
        found = {
            'bboxes': torch.from_numpy(boxes).float(), 'labels': torch.from_numpy(labels),
            'scores': torch.from_numpy(scores).float(),
        }  # fmt: skip
        samples.append({'img_id': number, 'ori_shape': SIZE[::-1], 'pred_instances': found})
    return samples


def measure_validation(kind: str, file: Path, count: int) -> Work:
    """Read the truth, take all detections, and compute COCO's figures of boxes."""
    begin_as_tool(torch.get_num_threads())
    with redirect_stdout(StringIO()):
        from mmdet.evaluation import CocoMetric
    if kind != THEIRS:
        from effvit_mm.openmm import metrics

        CocoMetric = metrics.FasterCocoMetric if kind == FASTER else metrics.CocoMetric  # noqa: N806
    samples = make_detections(file, count)
    begin, start = resident_bytes(), time.process_time()
    with redirect_stdout(StringIO()):
        metric = CocoMetric(str(file), metric='bbox', proposal_nums=(1, 10, 100))
        metric.dataset_meta = {'classes': class_names()}
        for sample in samples:
            metric.process({}, [sample])
        figures = metric.evaluate(len(samples))
    return Work(time.process_time() - start, begin, dict(figures))
