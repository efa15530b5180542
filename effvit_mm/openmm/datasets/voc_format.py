"""Reading VOC-style sets, a list of images and an XML file for each, into COCO's form.

What is then checked, loaded and judged is the same as of a COCO-style file.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

from ...errors import DataError
from ...utils.image_files import EXTENSIONS
from ...utils.text import shorten
from .annotation_files import read_text
from .coco_check import CocoSource
from .coco_format import BROKEN, UNSEEN, flag
from .coco_gaps import Tell, true_size

SIDES = ('xmin', 'ymin', 'xmax', 'ymax')
COLUMN = ('-1', '0', '1')  # whether a class is in the image, in the lists by class

# roLabelImg's, whose angle is in radians.
ROTATED = (
    'a rotated box (<robndbox>), and boxes are upright here; write the <bndbox> around it, from '
    'its centre cx, cy by (w |cos angle| + h |sin angle|) / 2 to the sides and by '
    '(w |sin angle| + h |cos angle|) / 2 up and down'
)


@dataclass(frozen=True)
class VocSource(CocoSource):
    """A VOC-style set as a training or an evaluation reads it.

    Args:
        ann_file: The list of images.
        image_folder: ``data_prefix.sub_data_root``, below which images and XML files are.
        img_subdir: Of the images.
        ann_subdir: Of the XML files.
        bbox_min_size: ``filter_cfg.bbox_min_size``.
    """

    img_subdir: str = 'JPEGImages'
    ann_subdir: str = 'Annotations'
    bbox_min_size: int = 0

    judged_as_loaded: ClassVar[bool] = True

    def read(self, tell: Tell) -> dict:
        return read_voc(self.ann_file, self.image_folder, self.ann_subdir, self.img_subdir, tell)

    def category_detail(self, classes: Sequence[str], own: Sequence[str]) -> str:
        return ''  # there is no list of categories that could be another


def read_voc(
    list_file: str | Path,
    folder: str | Path,
    ann_subdir: str = 'Annotations',
    img_subdir: str = 'JPEGImages',
    tell: Tell | None = None,
) -> dict:
    """A set in the form of :func:`~.coco_format.read_coco`, names as ids of images and categories.

    Boxes are the whole pixels from the left upper one on, counted from 0; ``iscrowd`` is the mark
    ``difficult``. A size that is missing or 0 is taken from the image.

    Args:
        list_file: A name a line; empty lines, endings of files, and the columns -1, 0 and 1 of
            VOC's lists by class are passed over.
        folder: Below which images and XML files are.
        ann_subdir: Of the XML files.
        img_subdir: Of the images, of any format.
        tell: Called for what is at fault; by default that is an error.

    Raises:
        DataError: The list is missing; without ``tell`` an XML file is, or is broken.
    """
    folder = Path(folder)
    tell = tell or _refuse(list_file)
    images, annotations, seen = [], [], set()
    files = _ImageFiles(folder)
    for name in read_names(list_file):
        if name in seen:
            tell('duplicate_name', str(list_file), name)
            continue
        seen.add(name)
        xml = folder / ann_subdir / f'{name}.xml'
        try:
            root = _parse(xml)
            file = files.find(img_subdir, name)
        except DataError as error:
            tell('bad_record', f'{ann_subdir}/{name}.xml', str(error))
            continue
        size = _stated_size(root)
        if size is None:
            size = true_size(folder / file, file, tell)
            if size is None:
                continue
            tell('absent_size', file, f'{size[0]}x{size[1]}')
        images.append({
            'id': name, 'file_name': file, 'width': size[0], 'height': size[1], 'xml': str(xml),
        })  # fmt: skip
        for number, item in enumerate(root.findall('object'), 1):
            annotation = _read_object(item, f'{ann_subdir}/{name}.xml, object {number}', tell)
            if annotation is not None:
                position = {'id': len(annotations) + 1, 'own_id': number, 'image_id': name}
                annotations.append({**annotation, **position})
    names = dict.fromkeys(annotation['category_id'] for annotation in annotations)
    categories = [{'id': name, 'name': name} for name in names]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def _refuse(list_file: str | Path) -> Tell:
    def tell(kind: str, file: str, detail: str) -> None:
        if kind in (*BROKEN, *UNSEEN):
            raise DataError(f'data set {list_file}: {file}: {detail}')

    return tell


def read_names(list_file: str | Path) -> list[str]:
    """Names of a list file, without endings.

    Raises:
        DataError: It is missing, names nothing, or is in another encoding than UTF-8.
    """
    lines = [line.strip() for line in read_text(list_file).splitlines()]
    lines = [line.lstrip('\ufeff') for line in lines if line]
    columns = [line.split() for line in lines]
    if all(len(parts) > 1 and parts[-1] in COLUMN for parts in columns):
        lines = [
            line[: -len(parts[-1])].strip() for line, parts in zip(lines, columns, strict=True)
        ]
    names = [_without_ending(line.replace('\\', '/')) for line in lines]
    if not names:
        raise DataError(f'annotation file {list_file}: it names no image; a name a line is needed')
    return names


def _without_ending(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in (*EXTENSIONS, '.xml') else name


def _parse(xml: Path) -> ElementTree.Element:
    """The root of an XML file, its names without namespaces.

    Raises:
        DataError: It is missing or broken; the message does not name it.
    """
    try:
        root = ElementTree.parse(xml).getroot()
    except OSError as error:
        raise DataError(str(error.strerror or error)) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f'no XML, or broken XML: {error}') from error
    for element in root.iter():
        element.tag = str(element.tag).rpartition('}')[2]
    if root.tag != 'annotation':
        raise DataError(
            f"its root is <{root.tag}>, VOC's is <annotation>; export the set as Pascal VOC, an "
            'XML file an image'
        )
    return root


class _ImageFiles:
    """Image files by their names without endings, whatever those are: each folder is read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, dict[str, list[str]]] = {}

    def find(self, subdir: str, name: str) -> str:
        """The file below the root; where there is none, what VOC would call it.

        Raises:
            DataError: It may be one of several.
        """
        folder, stem = os.path.split(os.path.join(subdir, name))
        if folder not in self.known:
            self.known[folder] = self._list(folder)
        found = self.known[folder].get(stem, [f'{stem}.jpg'])
        if len(found) > 1 and f'{stem}.jpg' not in found:
            raise DataError(
                f'{shorten(found)} in {self.root / folder} could be its image; leave one of them'
            )
        chosen = f'{stem}.jpg' if f'{stem}.jpg' in found else found[0]
        return os.path.join(folder, chosen)

    def _list(self, folder: str) -> dict[str, list[str]]:
        found = defaultdict(list)
        try:
            names = sorted(os.listdir(self.root / folder))
        except OSError:
            return found  # each image is said to be missing
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending.lower() in EXTENSIONS:
                found[stem].append(name)
        return found


def _stated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Width and height, where they are said."""
    values = [_number(root.findtext(f'size/{key}')) for key in ('width', 'height')]
    return None if None in values or min(values) < 1 else (values[0], values[1])


def _number(text: str | None) -> int | None:
    """As mmdet reads it: whole, cut off; none that no picture has, and tensors do not hold."""
    try:
        number = int(float(text or ''))
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 2**31 else None


def _read_object(item: ElementTree.Element, where: str, tell: Tell) -> dict | None:
    """An object as an annotation; None, told, where it lacks something."""
    name = (item.findtext('name') or '').strip()
    if not name:
        tell('bad_record', where, 'it has no <name>')
        return None
    boxes = item.findall('bndbox')
    if len(boxes) > 1:
        text = f'it has {len(boxes)} <bndbox>; write an <object> for each of them'
        tell('bad_record', where, text)
        return None
    if not boxes and item.find('robndbox') is not None:
        tell('bad_record', where, ROTATED)
        return None
    sides = [item.findtext(f'bndbox/{side}') for side in SIDES]
    corners = [_number(side) for side in sides]
    if None in corners:
        side = corners.index(None)
        given = f'is {sides[side]!r}' if sides[side] else 'is missing'
        tell('bad_record', where, f'<bndbox><{SIDES[side]}> {given}; a number is needed')
        return None
    difficult = flag(item.findtext('difficult'))
    if difficult is None:
        text = f'<difficult> is {item.findtext("difficult")!r}; 0 or 1 is needed'
        tell('bad_record', where, text)
        return None
    left, top, right, bottom = corners
    box = [left - 1, top - 1, right - left, bottom - top]  # VOC counts pixels from 1
    return {
        'category_id': name, 'name': name, 'bbox': box, 'area': box[2] * box[3],
        'iscrowd': difficult, 'ignore': 0, 'attributes': dict(_attributes(item)),
    }  # fmt: skip


def _attributes(item: ElementTree.Element) -> Iterator[tuple[str, float]]:
    """The numbers among an object's attributes, as CVAT writes them."""
    for attribute in item.findall('attributes/attribute'):
        try:
            yield (attribute.findtext('name') or '').strip(), float(attribute.findtext('value'))
        except (TypeError, ValueError):
            continue  # a text, or nothing


def voc_samples(data: dict) -> Iterator[tuple[dict, list[dict]]]:
    """Each image of a set with its annotations."""
    objects = defaultdict(list)
    for annotation in data['annotations']:
        objects[annotation['image_id']].append(annotation)
    for image in data['images']:
        yield image, objects[image['id']]
