"""Text for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def shorten(names: Sequence[object], limit: int = 5) -> str:
    """The first few names, with a comma between them."""
    return ', '.join(map(str, names[:limit])) + (', ...' if len(names) > limit else '')


def nearest(name: object, known: Iterable[str], most: int = 1) -> str:
    """``"; did you mean 'lr'?"``, or nothing where nothing of what there is is near."""
    near = difflib.get_close_matches(str(name), list(known), n=most, cutoff=0.6)
    meant = ' or '.join(map(repr, near))
    return f'; did you mean {meant}?' if near else ''
