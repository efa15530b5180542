"""Faults of COCO-style sets, found before training, and what mmdet would do with each.

Knows nothing of mmdet: what is said of it was found by reading ``CocoDataset.parse_data_info``,
``filter_data``, ``LoadAnnotations``, ``Resize`` and ``CocoMetric`` of mmdet 3.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...utils.text import shorten
from ..config.arguments import is_number
from .coco_format import category_names, compare_classes, read_coco
from .scan import decode_all

TOLERANCE = 1e-3  # pixels, of rounding in a file


class Kind(NamedTuple):
    """A sort of fault: its title, what training does with it, and whether that is a failure."""

    title: str
    effect: str
    fatal: bool


_STOPS_READING = 'stops while the annotations are read'
_STOPS_LATER = 'stops when their turn comes'
_BACKGROUND = 'boxes are left out; what they show is learned as background'
_HALF_GREY = f'{_STOPS_LATER}; a cut JPEG read by LoadImageFromFile is trained on half grey'
_FATAL = {
    'bad_record': ('records without what they need', _STOPS_READING),
    'duplicate_image_id': ('image ids used twice',
                           'the last image gets the boxes of all, the others are lost'),
    'duplicate_annotation_id': ('annotation ids used twice', _STOPS_READING),
    'duplicate_category': ('categories listed twice', 'labels beyond the number of classes'),
    'wrong_classes': ('categories that do not fit the classes', 'labels are shifted or swapped'),
    'unknown_category': ('category ids that the file does not list', _BACKGROUND),
    'unused_category': ('boxes of categories that the config does not know', _BACKGROUND),
    'missing_image': ('image files that do not exist', _STOPS_LATER),
    'empty_file': ('image files of zero bytes', _STOPS_LATER),
    'unreadable_image': ('image files that cannot be decoded', _HALF_GREY),
    'missing_mask': ('objects without a mask', _STOPS_LATER),
    'mask_size': ('masks of another size than their image', _STOPS_LATER),
    'nothing_to_learn': ('no image has an object', 'stops, or learns nothing but background'),
}  # fmt: skip
_HARMLESS = {
    'no_iscrowd': ('annotations without iscrowd',
                   'taken as 0; evaluation with this file stops with KeyError'),
    'zero_id': ('annotations with id 0',
                "trained on; COCO's evaluation never counts them as found"),
    'unknown_image': ('annotations of images that the file does not list', 'are left out'),
    'duplicate_file': ('image files listed twice',
                       'are trained on twice, each time with a part of the boxes'),
    'inverted_box': ('boxes of negative width or height', 'are left out'),
    'empty_box': ('boxes below one pixel, or of no area', 'are left out'),
    'outside_box': ('boxes outside of their image', 'are left out'),
    'crossing_box': ('boxes that reach beyond their image',
                     'are cut off by Resize; evaluation takes them whole'),
    'crowd': ('crowd regions',
              'are not learned, nor spared as background; evaluation ignores them'),
    'ignored': ('annotations marked ignore', 'are left out'),
    'invalid_mask': ('masks of no use', 'their objects are ignored'),
    'no_objects': ('images without objects', ''),
    'no_usable_objects': ('images whose every box is left out',
                          'are kept, as nothing but background'),
    'small_image': ('images below filter_cfg.min_size', 'are left out'),
    'other_size': ('images of another size than the file says',
                   'boxes are taken as they are, and may not fit the image'),
}  # fmt: skip
KINDS = {
    name: Kind(*texts, fatal)
    for kinds, fatal in ((_FATAL, True), (_HARMLESS, False))
    for name, texts in kinds.items()
}


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
            return 'are left out' if dropped else 'are trained on, as nothing but background'
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
    annotations = list(_sound_records(data, 'annotation', ANNOTATION_FIELDS, report))
    objects = _check_annotations(annotations, images, labels, report)
    _check_objects(annotations, images, labels, objects, report)
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
    for image in _sound_records(data, 'image', IMAGE_FIELDS, report):
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


def _is_id(value: object) -> bool:
    return isinstance(value, int | str)


def _is_length(value: object) -> bool:
    return is_number(value) and value > 0


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


# What records must have, and whether a value can be.
IMAGE_FIELDS = {
    'id': _is_id,
    'file_name': lambda value: isinstance(value, str) and value != '',
    'width': _is_length,
    'height': _is_length,
}
ANNOTATION_FIELDS = {
    **dict.fromkeys(('id', 'image_id', 'category_id'), _is_id),
    'bbox': _is_box,
    'area': is_number,
}


def _sound_records(
    data: dict, what: str, fields: Mapping[str, Callable[[object], bool]], report: CocoReport
) -> Iterator[dict]:
    """The images or annotations that have all they need; a ``bad_record`` of each other."""
    for position, record in enumerate(data[f'{what}s']):
        fault = _record_fault(record, fields)
        if fault:
            detail = f'{what} {position} of the list: {fault}'
            report.add('bad_record', str(report.source.ann_file), detail)
        else:
            yield record


def _record_fault(record: object, fields: Mapping[str, Callable[[object], bool]]) -> str:
    """What a record lacks, in words; nothing where it is sound."""
    if not isinstance(record, Mapping):
        return f'{record!r} is no record'
    for key, is_sound in fields.items():
        if key not in record:
            return f'it has no {key}'
        if not is_sound(record[key]):
            return f'{key}={record[key]!r}' + ' is not four numbers' * (key == 'bbox')
    return ''


def _check_annotations(
    annotations: list[dict], images: dict, labels: dict, report: CocoReport
) -> Counter:
    """How many usable objects each image id has."""
    objects: Counter = Counter()
    seen: set = set()
    for annotation in annotations:
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
    text = f'box {x:.6g}, {y:.6g}, {width:.6g} x {height:.6g}'
    size = f'in {image["width"]}x{image["height"]}'
    if width < 0 or height < 0:
        yield 'inverted_box', text
    if width < 1 or height < 1 or annotation['area'] <= 0:
        yield 'empty_box', f'{text}, area {annotation["area"]:.6g}'
    inner_width = min(x + width, image['width']) - max(x, 0)
    inner_height = min(y + height, image['height']) - max(y, 0)
    if inner_width <= 0 or inner_height <= 0:
        yield 'outside_box', f'{text} {size}'
    if inner_width < width - TOLERANCE or inner_height < height - TOLERANCE:
        yield 'crossing_box', f'{text} {size}'


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
        if list(mask['size']) != [image['height'], image['width']]:
            size = 'x'.join(map(str, reversed(mask['size'])))
            detail = f'{where}: {size}, image {image["width"]}x{image["height"]}'
            report.add('mask_size', name, detail)


def _check_objects(
    annotations: list[dict], images: dict, labels: dict, objects: Counter, report: CocoReport
) -> None:
    """Images that have nothing to learn from."""
    annotated = {a['image_id'] for a in annotations if labels.get(a['category_id'])}
    for number, image in images.items():
        if not objects[number]:
            kind = 'no_usable_objects' if number in annotated else 'no_objects'
            report.add(kind, image['file_name'], f'{image["width"]}x{image["height"]}')
    if report.source.training and not any(objects[number] for number in images):
        detail = (
            f'{len(images)} images, {report.num_annotations} annotations, classes '
            f'{shorten(report.classes)}'
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
        sizes = decode_all([path for path, _ in sound])
        for (_, image), size in zip(sound, sizes, strict=True):
            if isinstance(size, str):
                report.add('unreadable_image', image['file_name'], size)
            elif size != (image['height'], image['width']):
                said = f'{image["width"]}x{image["height"]}'
                detail = f'{size[1]}x{size[0]}, the annotation file has {said}'
                if size == (image['width'], image['height']):
                    detail += ' (turned by its EXIF orientation?)'
                # Masks in run lengths are of one size; polygons are drawn at any.
                masks = image['file_name'] in report.with_run_lengths
                report.add('mask_size' if masks else 'other_size', image['file_name'], detail)
