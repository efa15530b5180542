"""Text for messages."""

from __future__ import annotations

from collections.abc import Sequence


def shorten(names: Sequence[object], limit: int = 5) -> str:
    """The first few names, with a comma between them."""
    return ', '.join(map(str, names[:limit])) + (', ...' if len(names) > limit else '')
