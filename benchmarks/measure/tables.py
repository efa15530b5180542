"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first column to the left, the others to the right."""
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)
