"""Reading COCO-style annotation files: one reader for the check, the loader and the evaluator.

A file comes out in one form, whatever labelling tool wrote it: names of categories are text without
spaces around, ids are written alike wherever they stand, folders in file names end in ``/``,
``iscrowd`` is 0 or 1, polygons are flat lists of three points or more, annotations are numbered
from 1. What cannot be brought into this form is refused.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import DataError
from ...utils.collector import collector_paused
from ...utils.text import shorten
from ..config.arguments import is_number
from .annotation_files import parse_coco
from .coco_gaps import SIDES, Tell, fill_gaps
from .coco_masks import is_length, tidy_mask
from .yolo_format import read_yolo, yolo_classes, yolo_split

# What tools write for iscrowd, ignore and difficult.
FLAGS = {None: 0, '': 0, '0': 0, '1': 1, 'false': 0, 'true': 1}
# Kinds of faults with which a file cannot be used, by names of the table `coco_check.KINDS`.
BROKEN = ('bad_record', 'duplicate_image_id', 'duplicate_category')
# With which a size that is not said cannot be found.
UNSEEN = ('missing_image', 'unreadable_image')


def read_coco(path: str | Path, folder: str | Path | None = None) -> dict:
    """Read a file with the lists ``images``, ``annotations`` and ``categories``.

    The list of annotations may be missing: such a set is to predict on.

    Args:
        path: The file.
        folder: Where the names of images begin: sizes and areas that the file lacks are found.
            Without it they are left out.

    Raises:
        DataError: It is missing, cut short, no JSON, or not of this form.
    """

    data = _take_kept(path, folder)
    if data is not None:
        return data

    def refuse(kind: str, file: str, detail: str) -> None:
        if kind in (*BROKEN, *UNSEEN):
            where = '' if file == str(path) else f'{file}, '
            raise DataError(f'annotation file {path}: {where}{detail}')

    with collector_paused():
        data = tidy_coco(parse_records(path, refuse), path, refuse)
        return data if folder is None else fill_gaps(data, path, folder, refuse)


# The records that were checked last, for the one who reads the same next.
_kept: dict[tuple, dict] = {}


def keep_for_reader(data: dict, path: str | Path, folder: str | Path) -> None:
    """Keep records that were found to be sound: the next :func:`read_coco` of them is given these.

    Args:
        data: As :func:`fill_gaps` gives them; not to be changed by who has them now.
        path: Their file; one of YOLO's sets is not kept, as its labels are in many.
        folder: Where the names of images begin.
    """
    drop_kept()
    if yolo_split(path) is None:
        _kept[_state(path, folder)] = data


def drop_kept() -> None:
    """Free what nobody has asked for."""
    _kept.clear()


def _take_kept(path: str | Path, folder: str | Path | None) -> dict | None:
    if not _kept or folder is None or not Path(path).is_file():
        return None
    return _kept.pop(_state(path, folder), None)


def _state(path: str | Path, folder: str | Path) -> tuple:
    """A file as it is now, and a folder."""
    told = os.stat(path)
    return os.path.abspath(path), told.st_mtime_ns, told.st_size, os.path.abspath(folder)


def read_classes(path: str | Path) -> tuple[str, ...]:
    """Names of the categories of a file, in its order; what else is in it is not judged.

    Raises:
        DataError: The file cannot be read, or a category lacks its id or name.
    """
    yolo = yolo_split(path)
    if yolo is not None:
        return yolo_classes(yolo[0])
    data = parse_coco(path)
    category_names(data, path)  # one at fault would be left out
    return category_names(tidy_coco(data, path, lambda *_: None), path)


def parse_records(path: str | Path, tell: Tell) -> dict:
    """The lists of a COCO-style file, or of ``data.yaml#train`` of YOLO's, as they stand there."""
    yolo = yolo_split(path)
    return parse_coco(path) if yolo is None else read_yolo(*yolo, tell)


# One form -----------------------------------------------------------------------------------------


def tidy_coco(data: dict, path: str | Path, tell: Tell) -> dict:
    """The records of a file in one form; ``tell`` is called for what is wrong with some.

    Records that cannot be used are not in what is given back. Sizes of images and areas that the
    file lacks are left out, see :func:`~.coco_gaps.fill_gaps`.

    Raises:
        DataError: No category has its id and name.
    """
    file = str(path)
    listed = _sound_categories(data, path, tell)
    names = {}  # of files, by image id
    images = []
    for image in _sound_records(data['images'], 'image', IMAGE_FIELDS, file, tell):
        if image['id'] in names:
            other = names[image['id']]
            tell(
                'duplicate_image_id', image['file_name'], f'id {image["id"]} is that of {other} too'
            )
        names[image['id']] = image['file_name']
        sizes = {side: int(image[side]) for side in SIDES if side in image}
        name = image['file_name'].replace('\\', '/')
        images.append({**image, **sizes, 'file_name': name})
    image_ids, category_ids = _by_text(images), _by_text(listed)
    annotations: list[dict] = []
    known: set = set()
    repeated: Counter = Counter()
    numbered = map(_with_id, enumerate(data['annotations'], 1))
    for item in _sound_records(numbered, 'annotation', ANNOTATION_FIELDS, file, tell):
        own = item['id']
        if own in known:
            repeated[own] += 1
        known.add(own)
        _tidy_annotation(item, image_ids, category_ids)
        item['own_id'], item['id'] = own, len(annotations) + 1
        annotations.append(item)
    for own, count in repeated.items():
        tell('duplicate_annotation_id', file, f'annotation {own}: {count + 1} times')
    categories = _tidy_categories(listed, annotations, file, tell)
    names = {category['id']: category['name'] for category in categories}
    for item in annotations:
        item['name'] = names.get(item['category_id'])
    return {**data, 'images': images, 'annotations': annotations, 'categories': categories}


def _tidy_annotation(item: dict, image_ids: Mapping, category_ids: Mapping) -> None:
    """Flags, ids of others and masks of a sound record in one form, in place.

    ``mask_fault`` is there for a mask that has one.
    """
    for key in ('iscrowd', 'ignore'):
        item[key] = flag(item.get(key))
    for key, ids in (('image_id', image_ids), ('category_id', category_ids)):
        item[key] = ids.get(str(item[key]), item[key])
    if item.get('segmentation'):
        item['segmentation'], fault = tidy_mask(item['segmentation'])
        if fault:
            item['mask_fault'] = fault


def flag(value: object) -> int | None:
    """0 or 1 of what stands for it; None where it is neither."""
    if type(value) is int:
        return value if value in (0, 1) else None
    if isinstance(value, str):
        value = value.strip().lower()
    if isinstance(value, str | None):
        return FLAGS.get(value)
    return int(value) if isinstance(value, int | float) and value in (0, 1) else None


def _is_id(value: object) -> bool:
    if type(value) is int:
        return True
    whole = isinstance(value, float) and value.is_integer()
    return whole or (isinstance(value, int | str) and not isinstance(value, bool))


def _with_id(numbered: tuple[int, object]) -> object:
    """An annotation, its place in the list its id where it has none, in place."""
    place, item = numbered
    if isinstance(item, dict) and item.get('id') is None:
        item['id'] = place
    return item


def _plain_id(value: int | str | float) -> int | str:
    """The same without a fraction: 3.0 is what tables of numbers make of 3."""
    return int(value) if isinstance(value, float) else value


def _by_text(records: Sequence[Mapping]) -> dict[str, int | str]:
    """Ids of records by their text: who refers to 3 may write '3'."""
    return {str(record['id']): record['id'] for record in records}


def _is_blank(value: object) -> bool:
    """What tools write for a length that they do not know."""
    return value is None or (is_number(value) and value == 0)


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _is_flag(value: object) -> bool:
    return flag(value) is not None


class Field:
    """What a value must be, in words and as a test.

    Args:
        text: The words.
        is_sound: The test.
        needed: It must be there.
        is_blank: Whether a value stands for one that is not there.
    """

    def __init__(
        self,
        text: str,
        is_sound: Callable[[object], bool],
        needed: bool = True,
        is_blank: Callable[[object], bool] = lambda _: False,
    ) -> None:
        self.text, self.is_sound, self.needed, self.is_blank = text, is_sound, needed, is_blank


_ID = Field('a whole number or a text', _is_id)
_LENGTH = Field('a number of pixels', is_length, needed=False, is_blank=_is_blank)
_FLAG = Field('0 or 1', _is_flag, needed=False)
IMAGE_FIELDS = {
    'id': _ID,
    'file_name': Field('a text', lambda value: isinstance(value, str) and value != ''),
    'width': _LENGTH,
    'height': _LENGTH,
}
ANNOTATION_FIELDS = {
    **dict.fromkeys(('id', 'image_id', 'category_id'), _ID),
    'bbox': Field('four numbers: left, top, width and height of an upright box', _is_box),
    'area': Field('a number', is_number, needed=False, is_blank=lambda value: value is None),
    'iscrowd': _FLAG,
    'ignore': _FLAG,
}


def _sound_records(
    records: Iterable, what: str, fields: Mapping[str, Field], file: str, tell: Tell
) -> Iterator[dict]:
    """The records that have all they need, in one form; a ``bad_record`` is told of each other.

    They are changed in place: copies of a million would take as long as reading them.
    """
    kind = None
    ids = [key for key, field in fields.items() if field is _ID]
    optional = {key: field for key, field in fields.items() if not field.needed}
    for position, record in enumerate(records):
        if isinstance(record, dict):
            for key, field in optional.items():
                if key in record and field.is_blank(record[key]):
                    del record[key]
        fault = record_fault(record, fields)
        if not fault:
            for key in ids:
                record[key] = _plain_id(record[key])
        if not fault and kind is not None and type(record['id']) is not kind:
            fault = f'id={record["id"]!r}, those before it are of type {kind.__name__}'
        if fault:
            name = record.get('file_name') if isinstance(record, Mapping) else None
            of = f' ({name or "id " + str(record["id"])})' if name or _has_id(record) else ''
            tell('bad_record', file, f'{what} {position} of the list{of}: {fault}')
        else:
            kind = type(record['id']) if what == 'image' else None
            yield record


def _has_id(record: object) -> bool:
    return isinstance(record, Mapping) and _is_id(record.get('id'))


def record_fault(record: object, fields: Mapping[str, Field]) -> str:
    """What a record lacks, in words; nothing where it is sound."""
    if not isinstance(record, Mapping):
        return f'{record!r} is no record'
    for key, field in fields.items():
        if key not in record:
            if field.needed:
                return f'it has no {key}'
        elif not field.is_sound(record[key]):
            return f'{key}={record[key]!r} is not {field.text}'
    return ''


# Categories ---------------------------------------------------------------------------------------


def category_names(data: dict, path: str | Path) -> tuple[str, ...]:
    """Names of the categories, in the file's order.

    Raises:
        DataError: One lacks its id or name, or there is none.
    """
    for category in data['categories']:
        if fault := _category_fault(category):
            raise DataError(f'annotation file {path}: {fault}')
    if not data['categories']:
        raise DataError(f'annotation file {path}: its list of categories is empty')
    return tuple(_plain_name(category['name']) for category in data['categories'])


def _category_fault(category: object) -> str:
    """What a category lacks, in words; nothing where it is sound."""
    if not isinstance(category, dict) or not {'id', 'name'} <= category.keys():
        return f'category {category!r} has no id or no name'
    name = category['name']
    named = is_number(name) or (isinstance(name, str) and name.strip())
    if not _is_id(category['id']) or not named:
        return f'category {category!r}: a number or a text is needed as id and as name'
    return ''


def _sound_categories(data: dict, path: str | Path, tell: Tell) -> list[dict]:
    """Those with id and name; a ``bad_record`` is told of each other, while there are some.

    Raises:
        DataError: There is none.
    """
    faults = [_category_fault(category) for category in data['categories']]
    if all(faults):  # of none, too
        category_names(data, path)
    for fault in filter(None, faults):
        tell('bad_record', str(path), fault)
    sound = (c for c, fault in zip(data['categories'], faults, strict=True) if not fault)
    return [{**category, 'id': _plain_id(category['id'])} for category in sound]


def _plain_name(name: object) -> str:
    return str(name).strip()


def _tidy_categories(
    categories: list[dict], annotations: list[dict], file: str, tell: Tell
) -> list[dict]:
    """Categories with text as names, those left out of which a copy is used."""
    used = {annotation['category_id'] for annotation in annotations}
    kinds = {type(category['id']).__name__ for category in categories}
    if len(kinds) > 1:
        tell('bad_record', file, 'ids of categories: some are numbers, some are text')
    by_name, by_id = defaultdict(list), {}
    for category in categories:
        number, name = category['id'], _plain_name(category['name'])
        if by_id.setdefault(number, name) != name:
            both = f'{by_id[number]!r} and {name!r}'
            tell('duplicate_category', file, f'id {number!r} is that of {both}')
        elif number not in by_name[name]:
            by_name[name].append(number)
    kept = {}
    for name, numbers in by_name.items():
        wanted = [number for number in numbers if number in used] or numbers[:1]
        if len(wanted) > 1:
            text = f'name {name!r} {len(wanted)} times, of ids {shorten(wanted)}, all with boxes'
            tell('duplicate_category', file, text)
        elif len(numbers) > 1:
            others = shorten([number for number in numbers if number not in wanted])
            tell('unused_copy', file, f'{name!r}: id {wanted[0]} is taken, {others} has no box')
        kept[name] = wanted[0]
    own = {c['id']: {**c, 'name': _plain_name(c['name'])} for c in reversed(categories)}
    return [own[number] for number in kept.values()]


def category_ids(data: dict, classes: Sequence[str], path: str | Path) -> list:
    """Ids of the categories by label: names decide, not the file's order.

    A class that the file lacks is added to it, as one that has no box.

    Raises:
        DataError: It lacks all.
    """
    found = {category['name']: category['id'] for category in data['categories']}
    if message := compare_classes(classes, list(found)):
        raise DataError(f'annotation file {path}: {message}')
    for name in classes:
        if name not in found:
            found[name] = _free_id(list(found.values()), name)
            data['categories'].append({'id': found[name], 'name': name})
    return [found[name] for name in classes]


def _free_id(taken: list, name: str) -> int | str:
    if all(isinstance(number, int) for number in taken):
        return max(taken) + 1
    while name in taken:
        name += '_'
    return name


def compare_classes(classes: Sequence[str], own: Sequence[str]) -> str:
    """What is wrong with a file's categories for a set of classes; nothing where they fit.

    Some classes may be absent; boxes of other categories than the classes are found elsewhere.
    """
    if set(classes) & set(own):
        return ''
    return (
        f'its categories ({shorten(own)}) have none of the {len(classes)} classes '
        f'({shorten(classes)})'
    )


def compare_order(classes: Sequence[str], own: Sequence[str]) -> str:
    """The same where labels go by the order of the file, as in mmdet's own reader."""
    lacking = [name for name in classes if name not in own]
    order = [name for name in own if name in classes]
    if not lacking and order == list(classes):
        return ''
    return (
        f'its categories ({shorten(own)}) are not the classes ({shorten(classes)}) in their order, '
        'which the labels go by'
    )
