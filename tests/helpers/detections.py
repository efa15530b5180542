"""Random objects and predictions with everything that makes an evaluation hard."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from pycocotools import mask as coder

# In a file's order, ids not sorted. 'never' has no objects, 'unseen' no predictions.
CATEGORIES = {7: 'cat', 3: 'dog', 12: 'never', 5: 'unseen', 1: 'bird'}
NAMES = tuple(CATEGORIES.values())
SIZE = 160  # pixels, of the square images
IMAGES = 10


def ellipse(box) -> np.ndarray:
    """(SIZE, SIZE) uint8: what fills a box (left, top, width, height)."""
    left, top, width, height = box
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    inside = ((x - left - width / 2) / width) ** 2 + ((y - top - height / 2) / height) ** 2
    return (inside <= 0.25).astype(np.uint8)


def encode(mask: np.ndarray) -> dict:
    """As compressed run lengths that JSON can hold."""
    rle = coder.encode(np.asfortranarray(mask))
    return {'size': list(rle['size']), 'counts': rle['counts'].decode()}


def random_box(rng) -> list[float]:
    # Small, medium and large objects.
    width, height = rng.choice([12, 25, 40, 80, 110]) * rng.uniform(0.8, 1.25, 2)
    left, top = rng.uniform(0, SIZE - np.array([width, height]))
    return [float(round(v, 1)) for v in (left, top, width, height)]


def random_truth(seed: int = 0) -> dict:
    """Content of an annotation file; image ids are not sorted, image 4 shows nothing.

    File names occur twice, in different folders.
    """
    rng = np.random.default_rng(seed)
    ids = [int(i) for i in rng.permutation(IMAGES) + 1]
    data = {
        'images': [
            {'id': i, 'file_name': f'{i % 2}/{i // 2}.png', 'width': SIZE, 'height': SIZE}
            for i in ids
        ],
        'categories': [{'id': i, 'name': name} for i, name in CATEGORIES.items()],
        'annotations': [],
    }
    for image in ids:
        for _ in range(0 if image == 4 else rng.integers(3, 9)):
            box = random_box(rng)
            data['annotations'].append({
                'id': len(data['annotations']) + 1, 'image_id': image, 'bbox': box,
                'category_id': int(rng.choice([7, 3, 5, 1])), 'area': box[2] * box[3],
                'iscrowd': int(rng.random() < 0.15), 'segmentation': encode(ellipse(box)),
            })  # fmt: skip
    return data


def random_predictions(data: dict, seed: int = 1, crowded: bool = True) -> list[dict]:
    """As ``test.py --out`` writes them, in the file's order of images.

    Scores are equal often; boxes are near objects, of a wrong class, double or nowhere; image 2 has
    none; ``crowded``: one class has more than 100 in an image.
    """
    rng = np.random.default_rng(seed)
    labels = {number: label for label, number in enumerate(CATEGORIES)}
    predictions = []
    for image in data['images']:
        boxes, classes = [], []
        for item in data['annotations']:
            if item['image_id'] != image['id'] or item['category_id'] == 5:
                continue
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, rng.choice([0, 0.05, 0.2]), 4) * item['bbox'][2]
                boxes.append(np.array(item['bbox']) + shift)
                wrong = rng.random() < 0.2
                classes.append(rng.choice([0, 1, 2, 4]) if wrong else labels[item['category_id']])
        nowhere = 130 if crowded and image['id'] == 6 else rng.integers(0, 4)
        boxes += [random_box(rng) for _ in range(nowhere)]
        classes += [0 if nowhere > 100 else int(rng.choice([0, 1, 2, 4])) for _ in range(nowhere)]
        if image['id'] == 2:
            boxes, classes = [], []
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 2)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        scores = (rng.integers(1, 20, len(boxes)) / np.float32(20)).astype(np.float32)
        predictions.append({
            'img_id': image['id'], 'img_path': image['file_name'], 'ori_shape': [SIZE, SIZE],
            'pred_instances': {
                'bboxes': corners.tolist(), 'labels': [int(c) for c in classes],
                'scores': scores.tolist(), 'masks': [encode(ellipse(box)) for box in boxes],
            },
        })  # fmt: skip
    return predictions


def write(folder: Path, data: dict, predictions: list[dict]) -> tuple[Path, Path]:
    """``truth.json`` and ``predictions.json``."""
    paths = folder / 'truth.json', folder / 'predictions.json'
    for path, content in zip(paths, (data, predictions), strict=True):
        path.write_text(json.dumps(content))
    return paths


CONFIG = """
_base_ = {base!r}
default_scope = 'mmdet'
custom_imports = dict(imports=['effvit_mm', 'detections'], allow_failed_imports=False)
visualizer = dict(type='DetLocalVisualizer')
model = dict(type='RecallingDetector', predictions={root!r} + '/predictions.json')
test_dataloader = dict(
    batch_size=3, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root={root!r}, ann_file='truth.json', data_prefix=dict(img=''),
        metainfo=dict(classes={names!r}), test_mode=True,
        pipeline=[
            dict(type='effvit_mm.LoadImage'),
            dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape')),
        ],
    ),
)
test_evaluator = dict(type='CocoMetric', ann_file={root!r} + '/truth.json', metric={metric!r})
test_cfg = dict()
"""
REPOSITORY = Path(__file__).resolve().parents[2]


def write_config(folder: Path, metric: object = ('bbox', 'segm'), names=NAMES) -> Path:
    """A config that tests on ``truth.json``."""
    metric = list(metric) if isinstance(metric, tuple) else metric
    path = folder / 'config.py'
    base = str(REPOSITORY / 'configs' / '_base_' / 'default_runtime.py')
    path.write_text(CONFIG.format(base=base, root=str(folder), names=tuple(names), metric=metric))
    return path


def write_files(folder: Path, data: dict) -> Path:
    """The images, grey, and a checkpoint of the detector below, which is returned."""
    for image in data['images']:
        path = folder / image['file_name']
        path.parent.mkdir(exist_ok=True)
        picture = np.full((image['height'], image['width'], 3), 10 * image['id'], np.uint8)
        assert cv2.imwrite(str(path), picture)
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, folder / 'weights.pth')
    return folder / 'weights.pth'


@MODELS.register_module()
class RecallingDetector(BaseModel):
    """Predicts what a file says."""

    def __init__(self, predictions: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        content = json.loads(Path(predictions).read_text())
        self.known = {image['img_id']: image['pred_instances'] for image in content}

    def forward(self, inputs, data_samples, mode='predict'):
        for sample in data_samples:
            known = self.known[sample.img_id]
            masks = np.array([coder.decode(mask) for mask in known['masks']], bool)
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor(known['bboxes']).reshape(-1, 4),
                labels=torch.tensor(known['labels'], dtype=torch.long),
                scores=torch.tensor(known['scores']),
                masks=torch.from_numpy(masks.reshape(-1, SIZE, SIZE)),
            )
        return data_samples
