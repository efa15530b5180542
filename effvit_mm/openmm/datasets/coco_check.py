"""Faults of COCO-style sets, found before training, and what mmdet would do with each.

Knows nothing of mmdet: what is said of it was found by reading ``CocoDataset.parse_data_info``,
``filter_data``, ``LoadAnnotations``, ``Resize`` and ``CocoMetric`` of mmdet 3.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

from ...errors import DataError
from ...utils.images import load_image
from .coco_format import category_names, compare_classes, read_coco

TOLERANCE = 1e-3  # pixels, of rounding in a file


@dataclass(frozen=True)
class Kind:
    """A sort of fault: its title, what training does with it, and whether that is a failure."""

    title: str
    effect: str
    fatal: bool = False


KINDS = {
    'bad_record': Kind(
        'records without what they need', 'stops while the annotations are read', True
    ),
    'duplicate_image_id': Kind(
        'image ids used twice', 'the last image gets the boxes of all, the others are lost', True
    ),
    'duplicate_annotation_id': Kind(
        'annotation ids used twice', 'stops while the annotations are read', True
    ),
    'duplicate_category': Kind(
        'categories listed twice', 'labels beyond the number of classes', True
    ),
    'wrong_classes': Kind(
        'categories that do not fit the classes', 'labels are shifted or swapped', True
    ),
    'unknown_category': Kind(
        'category ids that the file does not list',
        'boxes are left out; what they show is learned as background',
        True,
    ),
    'unused_category': Kind(
        'boxes of categories that the config does not know',
        'boxes are left out; what they show is learned as background',
        True,
    ),
    'missing_image': Kind('image files that do not exist', 'stops when their turn comes', True),
    'empty_file': Kind('image files of zero bytes', 'stops when their turn comes', True),
    'unreadable_image': Kind(
        'image files that cannot be decoded',
        'stops when their turn comes; a cut JPEG read by LoadImageFromFile is trained on half grey',
        True,
    ),
    'missing_mask': Kind('objects without a mask', 'stops when their turn comes', True),
    'mask_size': Kind(
        'masks of another size than their image', 'stops when their turn comes', True
    ),
    'nothing_to_learn': Kind(
        'no image has an object', 'stops, or learns nothing but background', True
    ),
    'no_iscrowd': Kind(
        'annotations without iscrowd', 'taken as 0; evaluation with this file stops with KeyError'
    ),
    'zero_id': Kind(
        'annotations with id 0', "trained on; COCO's evaluation never counts them as found"
    ),
    'unknown_image': Kind('annotations of images that the file does not list', 'are left out'),
    'duplicate_file': Kind(
        'image files listed twice', 'are trained on twice, each time with a part of the boxes'
    ),
    'inverted_box': Kind('boxes of negative width or height', 'are left out'),
    'empty_box': Kind('boxes below one pixel, or of no area', 'are left out'),
    'outside_box': Kind('boxes outside of their image', 'are left out'),
    'crossing_box': Kind(
        'boxes that reach beyond their image', 'are cut off by Resize; evaluation takes them whole'
    ),
    'crowd': Kind(
        'crowd regions', 'are not learned, nor spared as background; evaluation ignores them'
    ),
    'ignored': Kind('annotations marked ignore', 'are left out'),
    'invalid_mask': Kind('masks of no use', 'their objects are ignored'),
    'no_objects': Kind('images without objects', ''),
    'no_usable_objects': Kind(
        'images whose every box is left out', 'are kept, as nothing but background'
    ),
    'small_image': Kind('images below filter_cfg.min_size', 'are left out'),
    'other_size': Kind(
        'images of another size than the file says',
        'boxes are taken as they are, and may not fit the image',
    ),
}
# What `no_objects` means depends on filter_cfg.filter_empty_gt.
EMPTY_LEFT_OUT, EMPTY_KEPT = 'are left out', 'are trained on, as nothing but background'


@dataclass(frozen=True)
class CocoSource:
    """A COCO-style set as a training reads it.

    Args:
        ann_file: The annotation file.
        image_folder: Where its file names begin; None leaves image files out of the check.
        classes: What the config knows; None: all the categories of the file.
        with_masks: Masks are read too.
        polygons_only: They are kept as polygons (``poly2mask=False``).
        training: Not only for evaluation.
        filter_empty: ``filter_cfg.filter_empty_gt``.
        min_size: ``filter_cfg.min_size``.
    """

    ann_file: Path
    image_folder: Path | None = None
    classes: tuple[str, ...] | None = None
    with_masks: bool = False
    polygons_only: bool = False
    training: bool = True
    filter_empty: bool = True
    min_size: int = 0


@dataclass(frozen=True)
class Finding:
    """One fault: a key of ``KINDS``, the image's file (or the annotation file), particulars."""

    kind: str
    file: str
    detail: str


@dataclass
class CocoReport:
    """What was found in a set."""

    source: CocoSource
    classes: tuple[str, ...] = ()
    num_images: int = 0
    num_annotations: int = 0
    boxes: Counter = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    with_run_lengths: set[str] = field(default_factory=set)

    def add(self, kind: str, file: str, detail: str) -> None:
        self.findings.append(Finding(kind, file, detail))

    def by_kind(self) -> dict[str, list[Finding]]:
        """The findings grouped, fatal kinds first."""
        groups: dict[str, list[Finding]] = {name: [] for name in KINDS}
        for finding in self.findings:
            groups[finding.kind].append(finding)
        return {name: found for name, found in groups.items() if found}

    def fatal(self) -> dict[str, list[Finding]]:
        """The groups that would break a training (or evaluation)."""
        return {name: found for name, found in self.by_kind().items() if self.is_fatal(name)}

    def is_fatal(self, kind: str) -> bool:
        if kind == 'no_iscrowd':
            return not self.source.training
        return KINDS[kind].fatal

    def effect(self, kind: str) -> str:
        if kind == 'no_objects':
            dropped = self.source.training and self.source.filter_empty
            return EMPTY_LEFT_OUT if dropped else EMPTY_KEPT
        return KINDS[kind].effect


def check_coco(source: CocoSource, read_images: bool = False) -> CocoReport:
    """Look for faults in the annotation file and, where a folder is given, in the image files.

    Args:
        source: The set.
        read_images: Decode every image; else only their existence and emptiness are seen.

    Raises:
        DataError: The annotation file as such cannot be used.
    """
    data = read_coco(source.ann_file)
    report = CocoReport(source)
    report.num_images, report.num_annotations = len(data['images']), len(data['annotations'])
    labels = _check_categories(data, report)
    images = _check_images(data, report)
    objects = _check_annotations(data, images, labels, report)
    _check_objects(data, images, labels, objects, report)
    _check_files(images, report, read_images)
    return report


def _check_categories(data: dict, report: CocoReport) -> dict:
    """Names of the categories by id; those the config does not know have None."""
    source = report.source
    own = category_names(data, source.ann_file)
    classes = report.classes = own if source.classes is None else tuple(source.classes)
    where = str(source.ann_file)
    ids = [category['id'] for category in data['categories']]
    for what, values in (('id', ids), ('name', own)):
        for value, count in Counter(values).items():
            if count > 1:
                report.add('duplicate_category', where, f'{what} {value!r} {count} times')
    message = compare_classes(classes, own)
    if message:
        report.add('wrong_classes', where, message)
    return {i: name if name in classes else None for i, name in zip(ids, own, strict=True)}


def _check_images(data: dict, report: CocoReport) -> dict:
    """The sound records of images by id."""
    images: dict = {}
    names: Counter = Counter()
    where = str(report.source.ann_file)
    for position, image in enumerate(data['images']):
        fault = _image_fault(image)
        if fault:
            report.add('bad_record', where, f'image {position} of the list: {fault}')
            continue
        name = image['file_name']
        if image['id'] in images:
            other = images[image['id']]['file_name']
            report.add('duplicate_image_id', name, f'id {image["id"]} is that of {other} too')
        images[image['id']] = image
        names[name] += 1
        if report.source.training and min(image['width'], image['height']) < report.source.min_size:
            report.add('small_image', name, f'{image["width"]}x{image["height"]}')
    for name, count in names.items():
        if count > 1:
            report.add('duplicate_file', name, f'listed {count} times')
    return images


def _image_fault(image: object) -> str:
    if not isinstance(image, Mapping):
        return f'{image!r} is no record'
    for key in ('id', 'file_name', 'width', 'height'):
        if key not in image:
            return f'it has no {key}'
    if not isinstance(image['id'], int | str):
        return f'id={image["id"]!r}'
    if not isinstance(image['file_name'], str) or not image['file_name']:
        return f'file_name={image["file_name"]!r}'
    for key in ('width', 'height'):
        if not _is_number(image[key]) or image[key] <= 0:
            return f'{key}={image[key]!r}'
    return ''


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_annotations(data: dict, images: dict, labels: dict, report: CocoReport) -> Counter:
    """How many usable objects each image id has."""
    objects: Counter = Counter()
    seen: set = set()
    for position, annotation in enumerate(data['annotations']):
        fault = _annotation_fault(annotation)
        if fault:
            place = f'annotation {position} of the list'
            report.add('bad_record', str(report.source.ann_file), f'{place}: {fault}')
            continue
        number, image = annotation['id'], images.get(annotation['image_id'])
        name = image['file_name'] if image else str(report.source.ann_file)
        if number in seen:
            report.add('duplicate_annotation_id', name, f'annotation {number}')
        seen.add(number)
        if image is None:
            where = f'annotation {number}: image {annotation["image_id"]}'
            report.add('unknown_image', name, where)
            continue
        if number == 0:
            report.add('zero_id', name, 'annotation 0')
        if 'iscrowd' not in annotation:
            report.add('no_iscrowd', name, f'annotation {number}')
        for kind, detail in _box_faults(annotation, image, labels):
            report.add(kind, name, f'annotation {number}: {detail}')
            if kind != 'crossing_box':
                break
        else:
            if report.source.with_masks:
                _check_mask(annotation, image, report)
            if annotation.get('iscrowd'):
                report.add('crowd', name, f'annotation {number}')
            else:
                objects[annotation['image_id']] += 1
                report.boxes[labels[annotation['category_id']]] += 1
    return objects


def _annotation_fault(annotation: object) -> str:
    if not isinstance(annotation, Mapping):
        return f'{annotation!r} is no record'
    for key in ('id', 'image_id', 'category_id', 'bbox', 'area'):
        if key not in annotation:
            return f'it has no {key}'
        if key.endswith('id') and not isinstance(annotation[key], int | str):
            return f'{key}={annotation[key]!r}'
    box = annotation['bbox']
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f'bbox={box!r} is not four numbers'
    if not _is_number(annotation['area']):
        return f'area={annotation["area"]!r}'
    return ''


def _box_faults(annotation: Mapping, image: Mapping, labels: dict) -> Iterator[tuple[str, str]]:
    """Why mmdet leaves a box out or cuts it, in words."""
    category = annotation['category_id']
    if category not in labels:
        yield 'unknown_category', f'category_id={category!r}'
    elif labels[category] is None:
        yield 'unused_category', f'category_id={category!r}'
    if annotation.get('ignore'):
        yield 'ignored', 'ignore=1'
    x, y, width, height = annotation['bbox']
    text = f'box {_short(x)}, {_short(y)}, {_short(width)} x {_short(height)}'
    size = f'in {image["width"]}x{image["height"]}'
    if width < 0 or height < 0:
        yield 'inverted_box', text
    if width < 1 or height < 1 or annotation['area'] <= 0:
        yield 'empty_box', f'{text}, area {_short(annotation["area"])}'
    inner_width = min(x + width, image['width']) - max(x, 0)
    inner_height = min(y + height, image['height']) - max(y, 0)
    if inner_width <= 0 or inner_height <= 0:
        yield 'outside_box', f'{text} {size}'
    if inner_width < width - TOLERANCE or inner_height < height - TOLERANCE:
        yield 'crossing_box', f'{text} {size}'


def _short(value: float) -> str:
    return f'{value:.6g}'


def _check_mask(annotation: Mapping, image: Mapping, report: CocoReport) -> None:
    mask, name = annotation.get('segmentation'), image['file_name']
    where = f'annotation {annotation["id"]}'
    if not mask:
        report.add('missing_mask', name, where)
    elif isinstance(mask, list):
        if not any(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in mask):
            report.add('invalid_mask', name, f'{where}: no polygon of 3 points or more')
    elif not isinstance(mask, Mapping) or not {'size', 'counts'} <= mask.keys():
        report.add('invalid_mask', name, f'{where}: neither polygons nor run lengths')
    elif report.source.polygons_only:
        report.add('invalid_mask', name, f'{where}: run lengths, but poly2mask=False')
    else:
        report.with_run_lengths.add(name)
        _check_mask_size(mask, image, where, report)


def _check_mask_size(mask: Mapping, image: Mapping, where: str, report: CocoReport) -> None:
    if list(mask['size']) != [image['height'], image['width']]:
        size = 'x'.join(map(str, reversed(mask['size'])))
        detail = f'{where}: {size}, image {image["width"]}x{image["height"]}'
        report.add('mask_size', image['file_name'], detail)


def _check_objects(
    data: dict, images: dict, labels: dict, objects: Counter, report: CocoReport
) -> None:
    """Images that have nothing to learn from."""
    annotated = {
        annotation['image_id']
        for annotation in data['annotations']
        if not _annotation_fault(annotation) and labels.get(annotation['category_id'])
    }
    for number, image in images.items():
        if not objects[number]:
            kind = 'no_usable_objects' if number in annotated else 'no_objects'
            report.add(kind, image['file_name'], f'{image["width"]}x{image["height"]}')
    if report.source.training and not any(objects[number] for number in images):
        detail = (
            f'{len(images)} images, {len(data["annotations"])} annotations, classes '
            f'{", ".join(report.classes[:5])}{", ..." if len(report.classes) > 5 else ""}'
        )
        report.add('nothing_to_learn', str(report.source.ann_file), detail)


def _check_files(images: dict, report: CocoReport, read_images: bool) -> None:
    folder = report.source.image_folder
    if folder is None:
        return
    sound = []
    for image in images.values():
        path = os.path.join(folder, image['file_name'])
        try:
            size = os.stat(path).st_size
        except OSError as error:
            report.add('missing_image', image['file_name'], f'{path}: {error.strerror}')
            continue
        if size == 0:
            report.add('empty_file', image['file_name'], path)
        else:
            sound.append((path, image))
    if read_images:
        # Threads do: decoding leaves Python's lock free.
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for (_, image), fault in zip(sound, pool.map(_decode, sound), strict=True):
                if isinstance(fault, str):
                    report.add('unreadable_image', image['file_name'], fault)
                elif fault != (image['height'], image['width']):
                    _add_other_size(image, fault, report)


def _decode(item: tuple[str, Mapping]) -> str | tuple[int, int]:
    """An image's height and width, or what is wrong with it."""
    try:
        return load_image(item[0]).shape[:2]
    except DataError as error:
        return str(error)


def _add_other_size(image: Mapping, shape: tuple[int, int], report: CocoReport) -> None:
    height, width = shape
    detail = f'{width}x{height}, the annotation file has {image["width"]}x{image["height"]}'
    if (width, height) == (image['height'], image['width']):
        detail += ' (turned by its EXIF orientation?)'
    # Masks in run lengths are of one size; polygons are drawn at any.
    kind = 'mask_size' if image['file_name'] in report.with_run_lengths else 'other_size'
    report.add(kind, image['file_name'], detail)
