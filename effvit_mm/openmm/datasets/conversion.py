"""Writing detection sets in COCO's, VOC's and YOLO's layouts, out of what the readers give.

No box is lost. What a layout cannot hold is counted, to be told.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import yaml

from ...errors import ConfigError, DataError
from ...utils.files import write_text, written_atomically
from ...utils.image_files import EXTENSIONS
from .annotation_files import read_text
from .coco_format import read_coco
from .voc_format import COLUMN, SIDES, read_voc
from .yolo_format import label_path, yolo_classes, yolo_split

# Kinds of what is lost, in words.
CROWDS = 'crowd flags'
IGNORED = 'ignore flags'
MASKS = 'masks'
PARTS = 'masks of several parts, or of run lengths'
OUTLINES = 'boxes that are now those around their outlines'
ROUNDED = 'boxes rounded to whole pixels'
EMPTY = 'names of classes without a box'


def format_of(source: str) -> str:
    """The format that a source's name tells.

    Raises:
        ConfigError: It tells none.
    """
    if yolo_split(source):
        return 'yolo'
    found = {'.json': 'coco', '.txt': 'voc'}.get(Path(source).suffix.lower())
    if found is None:
        raise ConfigError(
            f"{source}: a COCO-style .json, VOC's list of images (.txt) or YOLO's "
            "'data.yaml#train' is needed"
        )
    return found


def read_set(source: str, kind: str, images: str | Path | None) -> dict:
    """The records of a set in COCO's form; each image has its ``path`` and a short ``file_name``.

    Args:
        source: The annotation file.
        kind: Its format.
        images: Where names of images begin; of VOC the folder above ``JPEGImages``. By default the
            folder of a ``.json``, and what lies above ``ImageSets/Main``.

    Raises:
        DataError: The set cannot be read, an image is missing, or no object tells its classes.
    """
    own = Path(os.path.abspath(source.rpartition('#')[0] if kind == 'yolo' else source)).parent
    if kind == 'voc':
        folder = Path(images or own.parents[1])
        data = read_voc(source, folder)
        if not data['categories']:
            raise DataError(
                f'{source}: it has no object, and in VOC nothing else names the classes'
            )
    else:
        folder = Path(images or own)
        data = read_coco(source, folder)
    paths = [os.path.abspath(folder / image['file_name']) for image in data['images']]
    for path in paths:
        if not os.path.isfile(path):
            raise DataError(
                f'{source}: image {path} does not exist; --images says where names begin'
            )
    names = [image['file_name'] for image in data['images']]
    if kind != 'coco' or any(os.path.isabs(n) or '..' in Path(n).parts for n in names):
        above = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, above).replace(os.sep, '/') for path in paths]
    known = {image['id'] for image in data['images']}
    listed = {category['id'] for category in data['categories']}
    for item in data['annotations']:
        if item['image_id'] not in known or item['category_id'] not in listed:
            raise DataError(
                f'{source}: annotation {item["own_id"]} is of image {item["image_id"]!r} and '
                f'category {item["category_id"]!r}, of which one is not listed'
            )
    data['images'] = [
        {**image, 'path': path, 'file_name': name}
        for image, path, name in zip(data['images'], paths, names, strict=True)
    ]
    return data


class Plan:
    """Files to be written: all is known before the first one is.

    Attributes:
        texts: ``{path: content}``, in their order; the last one makes the set.
        pictures: ``{path: image to copy}``.
        updated: A file that may be there already.
        lost: How many of what the layout cannot hold.
    """

    def __init__(self) -> None:
        self.texts: dict[Path, str] = {}
        self.pictures: dict[Path, str] = {}
        self.updated: Path | None = None
        self.lost: Counter = Counter()

    def add_picture(self, target: Path, source: str) -> None:
        """Raises DataError where two images would become one."""
        if target in self.pictures:
            raise DataError(f'{self.pictures[target]} and {source} would both be {target}')
        self.pictures[target] = source

    def write(self, overwrite: bool, link: bool = False) -> None:
        """Write all, each file whole or not at all.

        Args:
            overwrite: Replace files that are there; else nothing is written.
            link: Make symbolic links to the images instead of copies.

        Raises:
            ConfigError: There are files, and ``overwrite`` is False.
        """
        files = [path for path in (*self.texts, *self.pictures) if path != self.updated]
        there = [path for path in files if os.path.lexists(path)]
        if there and not overwrite:
            more = f' and {len(there) - 1} more' if len(there) > 1 else ''
            raise ConfigError(
                f'{there[0]}{more} would be overwritten: give --overwrite or another target'
            )
        for target, source in self.pictures.items():
            if os.path.exists(target) and os.path.samefile(target, source):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_atomically(target) as temporary:
                if link:
                    temporary.symlink_to(os.path.abspath(source))
                else:
                    shutil.copyfile(source, temporary)
        for target, text in self.texts.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, text)

    def losses(self, target: str) -> str:
        """One line of what is not in the new set; nothing where all is."""
        parts = [f'{count} {kind}' for kind, count in self.lost.items() if count]
        return f'not held by {target}: {", ".join(parts)}' if parts else ''


def plan_coco(data: dict, target: Path, split: str, masks: bool) -> Plan:
    """``annotations/<split>.json`` and ``images/``; ids are numbered from 1."""
    plan = Plan()
    numbers = {category['id']: n for n, category in enumerate(data['categories'], 1)}
    ids = {image['id']: n for n, image in enumerate(data['images'], 1)}
    for image in data['images']:
        plan.add_picture(target / 'images' / image['file_name'], image['path'])
    content = {
        'images': [
            {'id': ids[i['id']], **{k: i[k] for k in ('file_name', 'width', 'height')}}
            for i in data['images']
        ],
        'categories': [{'id': numbers[c['id']], 'name': c['name']} for c in data['categories']],
        'annotations': [
            _coco_annotation(n, item, ids, numbers) for n, item in enumerate(data['annotations'], 1)
        ],
    }
    text = json.dumps(content, ensure_ascii=False)
    plan.texts[target / 'annotations' / f'{split}.json'] = text
    return plan


def _coco_annotation(number: int, item: Mapping, images: Mapping, categories: Mapping) -> dict:
    kept = {k: item[k] for k in ('bbox', 'area', 'iscrowd', 'segmentation') if k in item}
    ignore = {'ignore': 1} if item.get('ignore') else {}
    places = {'image_id': images[item['image_id']], 'category_id': categories[item['category_id']]}
    return {'id': number, **places, **kept, **ignore}


def plan_yolo(data: dict, target: Path, split: str, masks: bool) -> Plan:
    """``images/<split>``, ``labels/<split>`` and ``data.yaml``, with what other splits it has."""
    plan = Plan()
    names = [category['name'] for category in data['categories']]
    numbers = {category['id']: n for n, category in enumerate(data['categories'])}
    by_image = _by_image(data)
    for image in data['images']:
        picture = Path(os.path.abspath(target / 'images' / split / image['file_name']))
        plan.add_picture(picture, image['path'])
        label = Path(label_path(str(picture)))
        if label in plan.texts:
            raise DataError(f'{image["path"]} and another image would both be of {label}')
        rows = [_row(item, image, numbers, masks, plan.lost) for item in by_image[image['id']]]
        plan.texts[label] = ''.join(f'{row}\n' for row in rows)
    plan.lost[IGNORED] += sum(bool(item.get('ignore')) for item in data['annotations'])
    file = target / 'data.yaml'
    content = {'names': dict(enumerate(names))}
    if file.exists():
        if list(yolo_classes(file)) != names:
            raise ConfigError(f'{file} has other names of classes; give another target')
        content = yaml.safe_load(read_text(file))
    content[split] = f'images/{split}'
    plan.updated = file
    plan.texts[file] = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    return plan


def _row(item: Mapping, image: Mapping, numbers: Mapping, masks: bool, lost: Counter) -> str:
    """An object as a row; ``repr`` of a float is read as the same float again."""
    sides = image['width'], image['height']
    left, top, width, height = item['bbox']
    values = [left + width / 2, top + height / 2, width, height]
    mask = item.get('segmentation')
    if mask and any(mask):
        if not masks:
            lost[MASKS] += 1
        elif isinstance(mask, Mapping) or len(mask) > 1:
            lost[PARTS] += 1
        else:
            values = mask[0]
            xs, ys = values[::2], values[1::2]
            ends = (min(xs), min(ys), max(xs), max(ys))
            box = (left, top, left + width, top + height)
            lost[OUTLINES] += any(abs(a - b) > 0.5 for a, b in zip(ends, box, strict=True))
    lost[CROWDS] += item['iscrowd']
    parts = [repr(float(value / sides[i % 2])) for i, value in enumerate(values)]
    return ' '.join([str(numbers[item['category_id']]), *parts])


def plan_voc(data: dict, target: Path, split: str, masks: bool) -> Plan:
    """``JPEGImages``, ``Annotations`` and ``ImageSets/Main/<split>.txt``; crowds are difficult."""
    plan, names = Plan(), []
    by_image = _by_image(data)
    for image in data['images']:
        stem = os.path.splitext(image['file_name'])[0]
        plan.add_picture(target / 'JPEGImages' / image['file_name'], image['path'])
        xml = target / 'Annotations' / f'{stem}.xml'
        if xml in plan.texts:
            raise DataError(f'{image["path"]} and another image would both be of {xml}')
        plan.texts[xml] = _xml(image, by_image[image['id']], plan.lost)
        names.append((stem, image['file_name']))
    used = {item['category_id'] for item in data['annotations']}
    plan.lost[EMPTY] += sum(category['id'] not in used for category in data['categories'])
    # Readers cut off endings, and columns of -1, 0 and 1: names that look so keep their own ending.
    odd = any(_is_odd(stem) for stem, _ in names)
    lines = [file if odd else stem for stem, file in names]
    text = ''.join(f'{line}\n' for line in lines)
    plan.texts[target / 'ImageSets' / 'Main' / f'{split}.txt'] = text
    return plan


def _is_odd(stem: str) -> bool:
    return stem.lower().endswith((*EXTENSIONS, '.xml')) or stem.split()[-1] in COLUMN


def _xml(image: Mapping, items: list[dict], lost: Counter) -> str:
    root = ElementTree.Element('annotation')

    def add(parent: ElementTree.Element, name: str, text: object = '') -> ElementTree.Element:
        element = ElementTree.SubElement(parent, name)
        element.text = str(text)
        return element

    add(root, 'filename', os.path.basename(image['file_name']))
    size = add(root, 'size')
    for side in ('width', 'height'):
        add(size, side, image[side])
    add(size, 'depth', 3)
    for item in items:
        left, top, width, height = item['bbox']
        start = [round(left) + 1, round(top) + 1]  # VOC counts pixels from 1
        lengths = [
            max(round(left + width) - round(left), 1),
            max(round(top + height) - round(top), 1),
        ]
        corners = [*start, start[0] + lengths[0], start[1] + lengths[1]]
        lost[ROUNDED] += [start[0] - 1, start[1] - 1, *lengths] != list(item['bbox'])
        mask = item.get('segmentation')
        lost[MASKS] += bool(mask and any(mask))
        lost[IGNORED] += bool(item.get('ignore'))
        element = add(root, 'object')
        add(element, 'name', item['name'])
        add(element, 'difficult', item['iscrowd'])
        box = add(element, 'bndbox')
        for side, value in zip(SIDES, corners, strict=True):
            add(box, side, value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode') + '\n'


def _by_image(data: dict) -> dict:
    found = defaultdict(list)
    for item in data['annotations']:
        found[item['image_id']].append(item)
    return found


PLANS: dict[str, Callable[[dict, Path, str, bool], Plan]] = {
    'coco': plan_coco,
    'voc': plan_voc,
    'yolo': plan_yolo,
}
