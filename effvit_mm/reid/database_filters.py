"""Choices of images in the language of Milvus's filters."""

from __future__ import annotations

import json

from .where import BEGIN, END, Where, several

NEVER = -1e300  # a time that is not known


def filter_of(where: Where) -> str:
    """The images that are chosen; nothing where all are."""
    begin, end = f'time_{BEGIN}', f'time_{END}'
    parts = []
    if where.cameras is not None:
        parts.append(f'camid in {several(where.cameras)}')
    if where.not_cameras:
        parts.append(f'camid not in {several(where.not_cameras)}')
    if where.begin is not None:
        parts.append(f'({end} > {float(where.begin)} or {begin} >= {float(where.begin)})')
    if where.end is not None:
        parts.append(f'{begin} > {NEVER} and {begin} < {float(where.end)}')
    for name, values in where.columns.items():
        # Not "in", which Milvus Lite has for whole fields alone, and text as it is.
        known = f'known[{json.dumps(name, ensure_ascii=False)}]'
        equal = (f'{known} == {json.dumps(value, ensure_ascii=False)}' for value in values)
        parts.append(f'({" or ".join(equal) or "id < 0"})')
    return ' and '.join(parts)


def others(pid: int, camid: int) -> str:
    """Not the same person by the same camera."""
    return f'camid != {camid}' if pid < 0 else f'camid != {camid} or pid != {pid}'


def both(one: str, other: str) -> str:
    """Two filters, of which the second may be nothing."""
    return f'({one}) and ({other})' if other else one
