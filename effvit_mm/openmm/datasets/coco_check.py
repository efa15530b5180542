"""Faults of detection sets, found before training, and what would be done with each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

from ...utils.collector import collector_paused
from ...utils.image_size import image_size, size_fault
from ...utils.text import shorten
from .coco_format import (
    compare_classes,
    compare_order,
    keep_for_reader,
    parse_records,
    tidy_coco,
)
from .coco_gaps import Tell, fill_gaps, rotation
from .coco_masks import NO_POLYGON
from .fault_kinds import KINDS
from .scan import decoded_size, map_files

TOLERANCE = 1e-3  # pixels, of rounding in a file
ALLOWABLE = ('unknown_category', 'unused_category')  # by data_checks.allow_unknown_categories
CORNERS = 4  # of so many boxes one that reaches beyond its image makes one look at all


@dataclass(frozen=True)
class CocoSource:
    """A COCO-style set as a training or an evaluation reads it.

    Args:
        ann_file: The annotation file.
        image_folder: Where its file names begin; None leaves image files out of the check.
        size_folder: The same for sizes alone that the file does not say; default: image_folder.
        classes: What the config knows; None: all the categories of the file.
        with_masks: Masks are read too.
        polygons_only: They are kept as polygons (``poly2mask=False``).
        training: Not only for evaluation.
        filter_empty: ``filter_cfg.filter_empty_gt``.
        min_size: ``filter_cfg.min_size``.
        skip_corrupt: Files that cannot be read are left out by the data set itself.
        judged: What is evaluated by the set: ``'bbox'``, ``'segm'`` or both; of no evaluation, ().
        evaluator: The config key of what evaluates.
        limited: The setting with which a part of the file's images is tested, judged by all.
        filtered: A set to test on is filtered as one to train on, judged by all.
    """

    ann_file: Path
    image_folder: Path | None = None
    classes: tuple[str, ...] | None = None
    with_masks: bool = False
    polygons_only: bool = False
    training: bool = True
    filter_empty: bool = True
    min_size: int = 0
    skip_corrupt: bool = False
    judged: tuple[str, ...] = ()
    evaluator: str = 'test_evaluator'
    size_folder: Path | None = None
    limited: str = ''
    filtered: bool = False

    # What the loader leaves out is no object to find either.
    judged_as_loaded: ClassVar[bool] = False
    bbox_min_size: ClassVar[int] = 0

    def read(self, tell: Tell) -> dict:
        """The set's records in COCO's form; ``tell`` is called for those that are at fault."""
        data = tidy_coco(parse_records(self.ann_file, tell), self.ann_file, tell)
        folder = self.image_folder if self.size_folder is None else self.size_folder
        return fill_gaps(data, self.ann_file, folder, tell)

    def category_detail(self, classes: Sequence[str], own: Sequence[str]) -> str:
        """What is wrong with the categories as a whole, or nothing."""
        return compare_classes(classes, own)


@dataclass(frozen=True)
class OrderedCocoSource(CocoSource):
    """A set that mmdet's own reader loads, which gives labels by the order of the file."""

    def category_detail(self, classes: Sequence[str], own: Sequence[str]) -> str:
        return compare_order(classes, own)


@dataclass(frozen=True)
class Finding:
    """One fault: a key of ``KINDS``, the image's file (or the annotation file), particulars."""

    kind: str
    file: str
    detail: str


@dataclass
class CocoReport:
    """What was found in a set; ``files`` are its images, ``allowed`` faults that pass."""

    source: CocoSource
    allowed: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    num_images: int = 0
    num_annotations: int = 0
    files: tuple[str, ...] = ()
    boxes: Counter = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

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

    def lost(self) -> dict[str, list[Finding]]:
        """The groups of what is left out, or counted otherwise than one would think."""
        groups = self.by_kind()
        return {k: found for k, found in groups.items() if KINDS[k].lost and not self.is_fatal(k)}

    def told(self) -> dict[str, list[Finding]]:
        """The groups of which a word is said before the start."""
        groups = self.by_kind()
        said = {*self.lost(), *self.allowed}
        return {k: found for k, found in groups.items() if k in said or KINDS[k].told}

    def is_fatal(self, kind: str) -> bool:
        if kind == 'invalid_mask':  # pycocotools would stop, or take it for a box
            return 'segm' in self.source.judged
        return KINDS[kind].fatal and kind not in self.allowed

    def training(self, kind: str) -> str:
        """What a training does with such a fault."""
        if kind == 'no_objects':
            dropped = self.source.filter_empty
            return 'are left out' if dropped else 'are trained on, as nothing but background'
        return KINDS[kind].training

    def evaluation(self, kind: str) -> str:
        """What an evaluation with this set does with it."""
        if self.source.judged_as_loaded and KINDS[kind].training == 'are left out':
            return 'are left out'
        return KINDS[kind].evaluation or KINDS[kind].training

    def remedy(self, kind: str) -> str:
        """What helps; for a set with nothing in it, what helps against what took it all, too.

        Against what the config allows nothing has to.
        """
        if kind in self.allowed:
            return ''
        lost = self.lost() if kind in ('nothing_to_learn', 'nothing_to_find') else ()
        remedies = dict.fromkeys(KINDS[k].remedy for k in (*lost, kind))
        return '; or '.join(filter(None, remedies)).format(evaluator=self.source.evaluator)

    def effect(self, kind: str) -> str:
        """What happens to it in what the set is for."""
        return self.training(kind) if self.source.training else self.evaluation(kind)


def check_coco(
    source: CocoSource,
    read_images: bool = False,
    options: Mapping | None = None,
    keep: bool = False,
) -> CocoReport:
    """Look for faults in the annotation file and, where a folder is given, in the image files.

    Args:
        source: The set.
        read_images: Decode every image; else their existence and their sizes are seen.
        options: The config's ``data_checks``: what it allows passes.
        keep: Keep the records, if nothing is wrong with them, for the loader that reads them next.

    Raises:
        DataError: The annotation file as such cannot be used.
    """
    allows = (options or {}).get('allow_unknown_categories')
    report = CocoReport(source, ALLOWABLE if allows else ())
    with collector_paused():
        data = source.read(report.add)
        _look_into(data, report, read_images)
    if keep and type(source) is CocoSource and source.size_folder is None and not report.fatal():
        keep_for_reader(data, source.ann_file, source.image_folder or '')
    return report


def _look_into(data: dict, report: CocoReport, read_images: bool) -> None:
    source = report.source
    report.num_images, report.num_annotations = len(data['images']), len(data['annotations'])
    labels = _check_categories(data, report)
    images = {image['id']: image for image in data['images']}
    folder = source.image_folder or ''
    report.files = tuple(os.path.join(folder, image['file_name']) for image in images.values())
    _check_images(images.values(), report)
    objects = _check_annotations(data['annotations'], images, labels, report)
    _check_corners(data['annotations'], images, report)
    _check_objects(data['annotations'], images, labels, objects, report)
    _check_files(images, report, read_images)


def _check_categories(data: dict, report: CocoReport) -> dict:
    """Names of the categories by id; those the config does not know have None."""
    source = report.source
    own = tuple(category['name'] for category in data['categories'])
    classes = report.classes = own if source.classes is None else tuple(source.classes)
    message = source.category_detail(classes, own)
    if message:
        report.add('wrong_classes', str(source.ann_file), message)
    known = set(classes)
    return {c['id']: c['name'] if c['name'] in known else None for c in data['categories']}


def _check_images(images: Iterable[dict], report: CocoReport) -> None:
    names: Counter = Counter()
    for image in images:
        name = image['file_name']
        names[name] += 1
        if report.source.training and min(image['width'], image['height']) < report.source.min_size:
            report.add('small_image', name, f'{image["width"]}x{image["height"]}')
    for name, count in names.items():
        if count > 1:
            report.add('duplicate_file', name, f'listed {count} times')


def _check_annotations(
    annotations: list[dict], images: dict, labels: dict, report: CocoReport
) -> Counter:
    """How many objects to learn, or to find, each image id has."""
    objects: Counter = Counter()
    source, boxes = report.source, {}
    for annotation in annotations:
        number, image = annotation['own_id'], images.get(annotation['image_id'])
        if image is None:
            where = f'annotation {number}: image {annotation["image_id"]!r}'
            report.add('unknown_image', str(source.ann_file), where)
            continue
        name, usable = image['file_name'], True
        for kind, detail in box_faults(annotation, image, labels, source):
            report.add(kind, name, f'annotation {number}: {detail}')
            if kind != 'crossing_box':
                usable = False
                break
        box = (annotation['image_id'], annotation['category_id'], *annotation['bbox'])
        first = boxes.setdefault(box, annotation)
        if first is not annotation and _same_mask(first, annotation):
            report.add('duplicate_box', name, f'annotations {first["own_id"]} and {number}')
        if usable and (angle := rotation(annotation)):
            report.add('rotated_box', name, f'annotation {number}: {angle[0]}={angle[1]:.6g}')
        if usable and source.with_masks:
            usable = _has_mask(annotation, image, report)
        if annotation['iscrowd']:
            if usable:
                report.add('crowd', name, f'annotation {number}')
            continue
        if usable:
            report.boxes[labels[annotation['category_id']]] += 1
        to_find = not source.training and not source.judged_as_loaded
        if usable or (to_find and labels.get(annotation['category_id'])):
            objects[annotation['image_id']] += 1
    return objects


def _same_mask(first: Mapping, second: Mapping) -> bool:
    return (first.get('segmentation') or None) == (second.get('segmentation') or None)


def box_faults(
    annotation: Mapping, image: Mapping, labels: Mapping, source: CocoSource
) -> Iterator[tuple[str, str]]:
    """Why a box is left out or cut, the first reason first, in words."""
    category = annotation['category_id']
    if category not in labels:
        listed = shorten([*labels])
        yield 'unknown_category', f'category_id={category!r}, the file lists {listed or "none"}'
    elif labels[category] is None:
        known = '' if source.classes is None else f', the classes are {shorten(source.classes)}'
        own = '' if category == annotation['name'] else f' ({annotation["name"]})'
        yield 'unused_category', f'category_id={category!r}{own}{known}'
    if annotation['ignore']:
        yield 'ignored', 'ignore=1'
    x, y, width, height = annotation['bbox']

    def text() -> str:
        return f'box {x:.6g}, {y:.6g}, {width:.6g} x {height:.6g}'

    size = image['width'], image['height']
    if width < 0 or height < 0:
        yield 'inverted_box', text()
    if width < 1 or height < 1:
        yield 'empty_box', text()
    if annotation['area'] <= 0:
        yield 'no_area', f'{text()}, area {annotation["area"]:.6g}'
    inner_width = min(x + width, image['width']) - max(x, 0)
    inner_height = min(y + height, image['height']) - max(y, 0)
    if inner_width <= 0 or inner_height <= 0:
        yield 'outside_box', f'{text()} in {size[0]}x{size[1]}'
    if source.training and min(width, height) < source.bbox_min_size:
        yield 'small_box', text()
    if inner_width < width - TOLERANCE or inner_height < height - TOLERANCE:
        yield 'crossing_box', f'{text()} in {size[0]}x{size[1]}'


def _check_corners(annotations: list[dict], images: Mapping, report: CocoReport) -> None:
    """Boxes of other frameworks: left, top, right, bottom."""
    beyond = 0
    for annotation in annotations:
        image = images.get(annotation['image_id'])
        if image is None:
            continue
        x, y, right, bottom = annotation['bbox']
        width, height = image['width'] + TOLERANCE, image['height'] + TOLERANCE
        if not (0 <= x < right <= width and 0 <= y < bottom <= height):
            return
        beyond += x + right > width or y + bottom > height
    if beyond * CORNERS > len(annotations):
        detail = (
            f'{beyond} of {len(annotations)} reach beyond their images, but all would be within as '
            'left, top, right, bottom'
        )
        report.add('corner_boxes', str(report.source.ann_file), detail)


def _has_mask(annotation: Mapping, image: Mapping, report: CocoReport) -> bool:
    mask, name = annotation.get('segmentation'), image['file_name']
    where = f'annotation {annotation["own_id"]}'
    if not mask:
        report.add('missing_mask', name, where)
        return True
    fault = annotation.get('mask_fault', '')
    if isinstance(mask, Mapping) and report.source.polygons_only:
        mask, fault = NO_POLYGON, 'run lengths, but poly2mask=False'
    if fault:
        kind = 'invalid_mask' if mask is NO_POLYGON else 'odd_mask'
        report.add(kind, name, f'{where}: {fault}')
    elif isinstance(mask, Mapping) and list(mask['size']) != [image['height'], image['width']]:
        size = 'x'.join(map(str, reversed(mask['size'])))
        detail = f'{where}: {size}, image {image["width"]}x{image["height"]}'
        report.add('mask_size', name, detail)
    return mask is not NO_POLYGON


def _check_objects(
    annotations: list[dict], images: dict, labels: dict, objects: Counter, report: CocoReport
) -> None:
    """Images and classes that have nothing to learn from, and sets with nothing at all."""
    source, where = report.source, str(report.source.ann_file)
    annotated = {a['image_id'] for a in annotations if labels.get(a['category_id'])}
    for number, image in images.items():
        if not objects[number]:
            kind = 'no_usable_objects' if number in annotated else 'no_objects'
            report.add(kind, image['file_name'], f'{image["width"]}x{image["height"]}')
    for name in report.classes:
        if not report.boxes[name]:
            report.add('no_box', where, name)
    small = {n for n, i in images.items() if min(i['width'], i['height']) < source.min_size}
    dropped = small | (images.keys() - annotated if source.filter_empty else set())
    limited = source.limited
    if source.filtered and dropped:
        limited = f'filter_cfg leaves {len(dropped)} of {len(images)} images out'
    if limited and source.judged:
        report.add('partly_tested', where, limited)
    if any(number in images and number not in small for number in objects):
        return
    if source.training or source.judged:
        reasons = [f'{len(found)} {KINDS[k].title}' for k, found in report.lost().items()]
        detail = '; '.join(
            [f'{len(images)} images, {report.num_annotations} annotations', *reasons]
        )
        report.add('nothing_to_learn' if source.training else 'nothing_to_find', where, detail)


def _check_files(images: dict, report: CocoReport, read_images: bool) -> None:
    source, sound = report.source, []
    if source.image_folder is None:
        return

    def lacking(kind: str, image: Mapping, detail: str) -> None:
        if not source.skip_corrupt:
            report.add(kind, image['file_name'], detail)

    for image in images.values():
        path = os.path.join(source.image_folder, image['file_name'])
        try:
            size = os.stat(path).st_size
        except OSError as error:
            place = _elsewhere(source.image_folder, image['file_name'])
            lacking('missing_image', image, f'{path}: {error.strerror}{place}')
            continue
        if size == 0:
            lacking('empty_file', image, path)
        else:
            sound.append((path, image))
    read = decoded_size if read_images else image_size
    sizes = map_files(read, [path for path, _ in sound])
    for (_, image), size in zip(sound, sizes, strict=True):
        if isinstance(size, str):
            lacking('unreadable_image', image, size)
        elif fault := size_fault((image['height'], image['width']), size):
            report.add('other_size', image['file_name'], f'it {fault}')


def _elsewhere(folder: Path, name: str) -> str:
    """Where an image lies that is not where the file says, and what to give; or nothing."""
    above = Path(os.path.abspath(folder)).parent
    if (above / name).is_file():
        return f', but {above / name} is there: the folder in data_prefix must be {above}'
    plain = Path(folder, os.path.basename(name))
    if plain.is_file():
        return f', but {plain} is there: leave the folder out of file_name'
    place, own = os.path.split(os.path.join(folder, name))
    near = _names_alike(place).get(_alike(own))
    return f', but {os.path.join(place, near)} is there: write file_name so' if near else ''


def _alike(name: str) -> str:
    """What names have in common that differ in capitals, spaces around, or as parts of a URL."""
    return unquote(name).strip().casefold()


@lru_cache(maxsize=1)
def _names_alike(folder: str) -> dict[str, str]:
    try:
        return {_alike(name): name for name in os.listdir(folder)}
    except OSError:
        return {}
