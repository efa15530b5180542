"""The small COCO-style set in YOLO's layout."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from coco_sets import make_coco, write


def make_yolo(root: Path, images: int = 3, splits=('train', 'val'), masks: bool = False) -> dict:
    """``root/<split>/{images,labels}``, ``root/data.yaml``; gives it as COCO-style annotations."""
    for split in splits:
        data = make_coco(root / split, images=images, splits=())
        write_labels(root / split / 'labels', data, masks)
    names = [category['name'] for category in data['categories']]
    write_yaml(root, names=names, **{split: f'{split}/images' for split in splits})
    return data


def write_yaml(root: Path, **content) -> Path:
    path = root / 'data.yaml'
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def write_labels(folder: Path, data: dict, masks: bool = False) -> None:
    """A label file for each image: boxes, or outlines."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {category['id']: n for n, category in enumerate(data['categories'])}
    for image in data['images']:
        rows = []
        for item in (a for a in data['annotations'] if a['image_id'] == image['id']):
            left, top, width, height = item['bbox']
            values = [left + width / 2, top + height / 2, width, height]
            if masks:
                values = item['segmentation'][0]
            sides = (image['width'], image['height'])
            parts = [repr(value / sides[i % 2]) for i, value in enumerate(values)]
            rows.append(' '.join([str(numbers[item['category_id']]), *parts]))
        (folder / image['file_name']).with_suffix('.txt').write_text('\n'.join(rows) + '\n')


def make_both(root: Path, images: int = 3, masks: bool = False) -> tuple[Path, Path]:
    """The same set in YOLO's layout and COCO's: ``root/yolo`` and ``root/coco``."""
    data = make_yolo(root / 'yolo', images, masks=masks)
    make_coco(root / 'coco', images=images, splits=())
    (root / 'coco' / 'annotations').mkdir()
    for split in ('train', 'val'):
        place = write(root / 'coco', json.loads(json.dumps(data)), split)
        place.rename(root / 'coco' / 'annotations' / f'{split}.json')
    return root / 'yolo', root / 'coco'
