"""Text for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def shorten(names: Sequence[object], limit: int = 5) -> str:
    """The first few names, with a comma between them."""
    return ', '.join(map(str, names[:limit])) + (', ...' if len(names) > limit else '')


def suggest(name: object, known: Iterable[str], most: int = 1) -> str:
    """``"; did you mean 'lr'?"``, or nothing where nothing of what there is is near."""
    near = difflib.get_close_matches(str(name), list(known), n=most, cutoff=0.6)
    return did_you_mean(*near) if near else ''


def did_you_mean(*names: str) -> str:
    """The end of a message about a name that there is not, where it is known what was meant."""
    *others, last = map(repr, names)
    meant = f'{", ".join(others)} or {last}' if others else last
    return f'; did you mean {meant}?'
