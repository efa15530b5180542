"""Annotation files as text and as JSON, their records not looked at."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import DataError, MissingDataError
from ...utils.text import shorten

LISTS = ('images', 'annotations', 'categories')


def read_text(path: str | Path) -> str:
    """Text in UTF-8, or in UTF-16 or UTF-32, with or without a byte-order mark.

    Raises:
        DataError: The file is missing, or in another encoding.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        kind = MissingDataError if isinstance(error, FileNotFoundError) else DataError
        raise kind(f'annotation file {path}: {error.strerror or error}') from error
    try:
        return raw.decode(json.detect_encoding(raw))
    except UnicodeDecodeError as error:
        wrong = f'byte 0x{raw[error.start]:02x} at {error.start}'
        raise DataError(
            f'annotation file {path}: not text in UTF-8 ({wrong}); if it is text, save it in UTF-8'
        ) from error


def parse_coco(path: str | Path) -> dict:
    """The content of a file as it stands there, its records not looked at.

    Raises:
        DataError: It is missing, cut short, no JSON, or lacks a list.
    """
    text = read_text(path)
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
    keys = shorten(list(data)) or 'nothing'
    data.setdefault('annotations', [])
    for key in LISTS:
        if not isinstance(data.get(key), list):
            other = f'{key!r} is a {type(data[key]).__name__}, no list' if key in data else ''
            fault = other or f'it has no list {key!r}, but {keys}'
            raise DataError(f'annotation file {path} is not COCO-style: {fault}')
    return data
