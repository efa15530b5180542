"""Reading a COCO-style annotation file, or saying what is wrong with the file as such."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import DataError
from ...utils.text import shorten

LISTS = ('images', 'annotations', 'categories')


def read_coco(path: str | Path) -> dict:
    """Read a file with the lists ``images``, ``annotations`` and ``categories``.

    Raises:
        DataError: It is missing, cut short, no JSON, or not of this form.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise DataError(f'annotation file {path}: {error.strerror or error}') from error
    except UnicodeDecodeError as error:
        raise DataError(f'annotation file {path} is no JSON: not text') from error
    try:
        data = json.loads(text)
    except ValueError as error:
        at_end = isinstance(error, json.JSONDecodeError) and not text[error.pos :].strip('"\n ')
        # A string that was cut is reported where it begins.
        cut = at_end or 'Unterminated' in str(error) or not text.rstrip().endswith('}')
        what = 'is cut short' if cut else 'is no JSON'
        raise DataError(f'annotation file {path} {what}: {error}') from error
    if not isinstance(data, dict):
        raise DataError(f'annotation file {path} is not COCO-style: a {type(data).__name__}')
    for key in LISTS:
        if not isinstance(data.get(key), list):
            raise DataError(
                f'annotation file {path} is not COCO-style: it has no list {key!r}, but '
                f'{shorten(list(data)) or "nothing"}'
            )
    return data


def category_names(data: dict, path: str | Path) -> tuple[str, ...]:
    """Names of the categories in the file's order, which is that of mmdet's labels."""
    names = []
    for category in data['categories']:
        if not isinstance(category, dict) or not {'id', 'name'} <= category.keys():
            raise DataError(f'annotation file {path}: category {category!r} has no id or no name')
        names.append(str(category['name']))
    if not names:
        raise DataError(f'annotation file {path}: its list of categories is empty')
    return tuple(names)


def compare_classes(classes: tuple[str, ...], own: tuple[str, ...]) -> str:
    """What is wrong with a file's categories for a set of classes; nothing where they fit.

    Categories besides the classes are no fault here: their boxes are left out.
    """
    lacking = [name for name in classes if name not in own]
    if lacking:
        return (
            f'its categories ({shorten(own)}) lack {len(lacking)} of {len(classes)} classes '
            f'({shorten(lacking)}), which shifts the labels of the others'
        )
    order = [name for name in own if name in classes]
    if order != list(classes):
        return (
            f'its categories come in another order ({shorten(order)}) than the classes '
            f'({shorten(classes)}); labels go by the order of the file'
        )
    return ''
