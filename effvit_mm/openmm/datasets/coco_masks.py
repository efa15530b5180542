"""Masks of COCO-style files in one form: flat polygons of three points or more, or run lengths."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping

from ..config.arguments import is_number

MAX_COORDINATE = 1e6  # pixels
NO_POLYGON: list = [[]]  # a mask of no use: mmdet ignores its object


def is_length(value: object) -> bool:
    """Whether this is a whole number of pixels, 1 or more."""
    return is_number(value) and value >= 1 and value == int(value)


def tidy_mask(mask: object) -> tuple[list | dict, str]:
    """Flat polygons or run lengths, and what is wrong with them; ``NO_POLYGON`` where all is."""
    if isinstance(mask, Mapping):
        mask = _plain_run_lengths(mask)
        fault = _run_length_fault(mask)
        return (NO_POLYGON if fault else mask), fault
    if not isinstance(mask, list):
        return NO_POLYGON, 'neither polygons nor run lengths'
    polygons = [mask] if _is_outline(mask) else mask
    flat = [_flatten(polygon) for polygon in polygons]
    sound = [polygon for polygon in flat if _is_polygon(polygon)]
    if not sound:
        return NO_POLYGON, 'no polygon of 3 points or more'
    fault = f'{len(flat) - len(sound)} of {len(flat)} polygons left out, not of 3 points or more'
    return sound, fault if len(sound) < len(flat) else ''


def _is_outline(mask: list) -> bool:
    """Whether this is one polygon, not a list of them: numbers, or three points or more."""
    return all(map(is_number, mask)) or (len(mask) > 2 and all(map(_is_point, mask)))


def _is_point(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _flatten(polygon: object) -> object:
    if isinstance(polygon, list) and polygon and all(map(_is_point, polygon)):
        return [number for point in polygon for number in point]
    return polygon


def _is_polygon(value: object) -> bool:
    if not isinstance(value, list) or len(value) < 6 or len(value) % 2:
        return False
    try:
        # Much faster than a look at each; pycocotools draws what is far outside, too.
        near = min(value) >= -MAX_COORDINATE and max(value) <= MAX_COORDINATE
        return near and math.isfinite(sum(value))
    except (TypeError, OverflowError):
        return False


def _plain_run_lengths(mask: Mapping) -> dict:
    """The same with whole numbers as such, and the text of what Python writes as ``b'...'``."""
    plain = dict(mask)
    for key, value in mask.items():
        if isinstance(value, list) and all(isinstance(n, float) and n.is_integer() for n in value):
            plain[key] = [int(number) for number in value]
    if isinstance(mask.get('counts'), str) and mask['counts'].startswith(("b'", 'b"')):
        try:
            plain['counts'] = ast.literal_eval(mask['counts']).decode()
        except (SyntaxError, ValueError):
            return plain  # no such text, which is said
    return plain


def _run_length_fault(mask: Mapping) -> str:
    """What is wrong with run lengths in themselves, in words, or nothing."""
    size, counts = mask.get('size'), mask.get('counts')
    if not isinstance(size, list) or len(size) != 2 or not all(map(is_length, size)):
        return f'run lengths of size={size!r}, which is not height and width'
    pixels = size[0] * size[1]
    if isinstance(counts, list):
        whole = all(type(count) is int and count >= 0 for count in counts)
        total = sum(counts) if whole else None
        return '' if total == pixels else f'run lengths of {total} of {pixels} pixels'
    if not isinstance(counts, str):
        return f'run lengths of counts={counts!r}, which is neither a list nor a text'
    return _compressed_fault(size, counts, pixels)


def _compressed_fault(size: list, counts: str, pixels: int) -> str:
    """The same of COCO's compressed text; pycocotools would read beyond its end."""
    total, runs, position = 0, [], 0
    codes = [ord(character) - 48 for character in counts]
    while position < len(codes):
        value = shift = 0
        while True:
            if position == len(codes) or not 0 <= codes[position] < 64:
                return 'run lengths of a text that is cut short or no such text'
            code = codes[position]
            value |= (code & 31) << shift
            position, shift = position + 1, shift + 5
            if not code & 32:
                break
        if code & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        runs.append(value)
        if value < 0:
            return 'run lengths of a text that is no such text'
        total += value
    return '' if total == pixels else f'run lengths of {total} of {pixels} pixels'
