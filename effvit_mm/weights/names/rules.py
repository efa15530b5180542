"""Rules that rename weights both ways: from published names to ours, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

# A pattern of a whole name, and what writes the other side's name from a match of it: None for a
# tensor that we do not keep.
Renaming = tuple[str, Callable[[re.Match], str | None]]


class Rule(NamedTuple):
    """One line of a family's table of names, for each direction."""

    to_ours: Renaming
    to_published: Renaming


def rule(published: str, ours: str, **tables: Mapping[str, str]) -> Rule:
    """Build a rule of two templates with the same fields.

    Args:
        published, ours: Names with fields in braces: ``'norm.{p}'``.
        **tables: What a field may be, ``{published: ours}``, both sides without repetition. A field
            that has no table is one component of the dotted name, or part of one, and stays as it
            is.
    """
    back = {field: {new: old for old, new in table.items()} for field, table in tables.items()}
    return Rule(
        to_ours=(_pattern(published, tables), _filler(ours, tables)),
        to_published=(_pattern(ours, back), _filler(published, back)),
    )


def dropped(pattern: str) -> Rule:
    """A rule for published tensors that we do not keep."""
    never = r'(?!)'
    return Rule(to_ours=(pattern, lambda match: None), to_published=(never, lambda match: None))


def same(*names: str) -> dict[str, str]:
    """The table of a field that is one of a few names, which are the same on both sides."""
    return {name: name for name in names}


def rename(name: str, rules: Sequence[Rule], to_published: bool = False) -> str | None:
    """The other side's name, by the first rule that matches; None for what we do not keep.

    Raises:
        KeyError: No rule knows the name.
    """
    for candidate in rules:
        pattern, new = candidate.to_published if to_published else candidate.to_ours
        if match := re.fullmatch(pattern, name):
            return new(match)
    raise KeyError(name)


def _pattern(template: str, tables: Mapping[str, Mapping[str, str]]) -> str:
    """The regular expression of a template: a group for each field."""
    parts = re.split(r'\{(\w+)\}', template)  # text, field, text, ...
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.escape(part)
        else:
            choices = '|'.join(map(re.escape, tables.get(part, ()))) or '[^.]+'
            parts[i] = f'(?P<{part}>{choices})'
    return ''.join(parts)


def _filler(template: str, tables: Mapping[str, Mapping[str, str]]) -> Callable[[re.Match], str]:
    """What writes a match of the other side's pattern into a template."""

    def fill(match: re.Match) -> str:
        fields = match.groupdict().items()
        return template.format(**{key: tables.get(key, {}).get(v, v) for key, v in fields})

    return fill
