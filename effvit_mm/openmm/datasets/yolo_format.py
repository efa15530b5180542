"""Reading sets in YOLO's layout into the lists of a COCO-style file.

``data.yaml`` says where the images of ``train``, ``val`` and ``test`` are and what the classes are
called; beside each folder ``images`` lies one ``labels``, with a text file an image: a row
``class cx cy w h`` a box, ``class x1 y1 x2 y2 x3 y3 ...`` an outline, all in parts of the image's
width and height. Such a set is called ``data.yaml#train`` wherever an annotation file is named.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import yaml

from ...errors import DataError
from ...utils.image_files import EXTENSIONS, list_images
from ...utils.image_size import image_size
from ...utils.text import shorten
from .annotation_files import read_text
from .coco_gaps import Tell, mask_area
from .scan import map_files

SPLITS = {'train': ('train',), 'val': ('val', 'valid', 'validation'), 'test': ('test',)}
YAML = ('.yaml', '.yml')
ROUNDING = 1e-3  # parts of a side, by which a value may lie outside of 0 to 1
IMAGES, LABELS = f'{os.sep}images{os.sep}', f'{os.sep}labels{os.sep}'


def yolo_split(path: str | Path) -> tuple[str, str] | None:
    """File and split of ``data.yaml#train``; None for the name of another annotation file."""
    file, mark, split = str(path).rpartition('#')
    return (file, split) if mark and file.lower().endswith(YAML) else None


def read_yolo(file: str | Path, split: str, tell: Tell) -> dict:
    """The lists ``images``, ``annotations`` and ``categories`` of a split.

    Ids of categories are the class numbers, names of images whole paths. An annotation's id says
    label file and line. An image without a label file, or with an empty one, has no objects.

    Args:
        file: ``data.yaml``.
        split: ``'train'``, ``'val'`` or ``'test'``.
        tell: Called for rows that cannot be used and label files without an image.

    Raises:
        DataError: ``data.yaml`` or what it names is missing or cannot be used.
    """
    content = _read_yaml(file)
    names = read_names(content, file)
    places = list(_places(content, file, split))
    paths = list(dict.fromkeys(path for place in places for path in _image_paths(place)))
    if not paths:
        raise DataError(f'{file}: {split}: there is no image in {shorten(places)}')
    sizes = map_files(_size, paths)
    images, annotations, labels = [], [], {}
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True), 1):
        image = {'id': number, 'file_name': path}
        label = label_path(path)
        if label in labels:
            text = f'it is of {labels[label]} and of {path}; give one of them another name'
            tell('bad_record', label, text)
            continue
        labels[label] = path
        if not isinstance(size, str):  # else it is told when its size is looked for
            image |= {'height': size[0], 'width': size[1]}
            if os.path.isfile(label):
                called = os.path.relpath(label, os.path.dirname(os.path.abspath(file)))
                annotations += _read_rows(label, called, image, names, tell)
        images.append(image)
    for label in _without_image(labels):
        tell('unused_label', label, 'no image of this name')
    categories = [{'id': number, 'name': name} for number, name in enumerate(names)]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def yolo_classes(file: str | Path) -> tuple[str, ...]:
    """Names of the classes alone.

    Raises:
        DataError: ``data.yaml`` is missing or cannot be used.
    """
    return tuple(read_names(_read_yaml(file), file))


def _read_yaml(file: str | Path) -> dict:
    try:
        content = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        reason = ' '.join(str(error).split())
        raise DataError(f'{file} is no YAML: {reason}') from error
    if not isinstance(content, dict):
        raise DataError(f'{file}: train, val and names are needed, it has {content!r}')
    if 'kpt_shape' in content:
        raise DataError(
            f'{file}: kpt_shape={content["kpt_shape"]!r}: sets of keypoints are not read; rows of '
            'boxes or outlines are needed'
        )
    return content


def read_names(content: Mapping, file: str | Path) -> list[str]:
    """Names of the classes by their number.

    Raises:
        DataError: ``names`` is missing, has gaps or one twice, or ``nc`` is another number.
    """
    names = content.get('names')
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(
                f'{file}: names has the numbers {shorten(list(names))}; those from 0 to '
                f'{len(names) - 1} are needed'
            )
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f'{file}: names={names!r}; a list of names, or number: name, is needed')
    words = [name for name in names if name is None or isinstance(name, bool | list | dict)]
    if words:
        raise DataError(f'{file}: names has {words[0]!r}, no text to YAML; put it in quotes')
    names = [str(name).strip() for name in names]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1 or not name]
    if twice:
        raise DataError(f'{file}: names has {twice[0]!r} more than once, or without a letter')
    count = content.get('nc', len(names))
    if count != len(names):
        raise DataError(f'{file}: nc={count!r}, but names has {len(names)}; they must agree')
    return names


def _places(content: Mapping, file: str | Path, split: str) -> Iterator[Path]:
    """Folders and list files of a split's images."""
    if split not in SPLITS:
        raise DataError(f'{file}#{split}: there are {", ".join(SPLITS)}')
    key = next((key for key in SPLITS[split] if content.get(key)), None)
    if key is None:
        raise DataError(f'{file}: it has no {split}; a folder of images is needed')
    own = Path(os.path.abspath(file)).parent
    roots = [own]
    if content.get('path'):
        roots.insert(0, own / str(content['path']))
    given = content[key] if isinstance(content[key], list) else [content[key]]
    for entry in map(str, given):
        plain = entry.replace('\\', '/')
        # Exports have '../train/images' where 'train/images' is meant.
        ways = dict.fromkeys((plain, plain.removeprefix('../')))
        tried = [Path(os.path.normpath(root / way)) for way in ways for root in roots]
        found = next((path for path in tried if path.exists()), None)
        if found is None:
            raise DataError(
                f'{file}: {key}={entry!r}: there is no {" nor ".join(map(str, tried))}; give the '
                f'folder of images from that of {os.path.basename(file)} on'
            )
        yield found


def _image_paths(place: Path) -> list[str]:
    """Whole paths of the images of a folder, or of a list file."""
    if place.is_dir():
        return list_images(place).images
    if place.suffix.lower() != '.txt':
        raise DataError(f'{place}: a folder of images is needed, or a .txt file that lists them')
    lines = [line.strip().lstrip('\ufeff') for line in read_text(place).splitlines()]
    return [os.path.normpath(place.parent / line.replace('\\', '/')) for line in lines if line]


def label_path(image: str) -> str:
    """The label file of an image: in ``labels`` for the last ``images`` of its path, or beside."""
    before, found, after = image.rpartition(IMAGES)
    return os.path.splitext(before + LABELS + after if found else image)[0] + '.txt'


def _size(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror}') from error
    return _known_size(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 18)  # check, loader and evaluator ask for the same files
def _known_size(path: str, *_: int) -> tuple[int, int]:
    return image_size(path)


def _without_image(labels: Mapping[str, str]) -> Iterator[str]:
    """Label files in the same folders as these, but of no image."""
    for folder in dict.fromkeys(map(os.path.dirname, labels)):
        if not os.path.isdir(folder) or any(
            name.lower().endswith(EXTENSIONS) for name in os.listdir(folder)
        ):
            continue  # text files beside images may be something else
        for name in sorted(os.listdir(folder)):
            if name.endswith('.txt') and os.path.join(folder, name) not in labels:
                yield os.path.join(folder, name)


# Rows ---------------------------------------------------------------------------------------------


def _read_rows(
    label: str, called: str, image: Mapping, names: Sequence[str], tell: Tell
) -> Iterator[dict]:
    """The annotations of a label file, by its short name; those of no use are told."""
    for line, row in enumerate(read_text(label).splitlines(), 1):
        values = row.strip().lstrip('\ufeff').split()
        if not values:
            continue
        fault = row_fault(values, names)
        if fault:
            tell('bad_record', label, f'line {line}: {fault}')
        else:
            yield {'id': f'{called}:{line}', 'image_id': image['id'], **_annotation(values, image)}


def row_fault(values: Sequence[str], names: Sequence[str]) -> str:
    """What is wrong with a row, in words that say what helps; nothing where it is sound."""
    count = len(values)
    if count != 5 and (count < 7 or count % 2 == 0):
        more = '; a sixth value, a confidence, must go' if count == 6 else ''
        return (
            f'{count} values; class and cx cy w h are needed, or class and x y of three corners or '
            f'more{more}'
        )
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        wrong = next(value for value in values if not _is_number(value))
        return f'{wrong!r} is no number'
    number, *parts = numbers
    if not number.is_integer() or not 0 <= number < len(names):
        last = len(names) - 1
        return f'class {values[0]}: names has 0 to {last}; correct it, or add its name'
    for value, part in zip(values[1:], parts, strict=True):
        if not math.isfinite(part):
            return f'{value} is no finite number'
        if not -ROUNDING <= part <= 1 + ROUNDING:
            return (
                f"{value} is not within 0 to 1: values are parts of the image's width and height, "
                'no pixels'
            )
    return ''


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _annotation(values: Sequence[str], image: Mapping) -> dict:
    """A sound row in COCO's terms, in pixels."""
    number, *parts = map(float, values)
    sides = image['width'], image['height']
    item = {'category_id': int(number), 'iscrowd': 0}
    if len(parts) == 4:
        width, height = (part * side for part, side in zip(parts[2:], sides, strict=True))
        left, top = (part * side for part, side in zip(parts[:2], sides, strict=True))
        box = [left - width / 2, top - height / 2, width, height]
        return {**item, 'bbox': box, 'area': width * height}
    outline = [min(max(part, 0.0), 1.0) * sides[i % 2] for i, part in enumerate(parts)]
    xs, ys = outline[::2], outline[1::2]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    area = mask_area([outline], (image['height'], image['width']))
    return {**item, 'bbox': box, 'area': area, 'segmentation': [outline]}
