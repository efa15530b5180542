"""``KEY=VALUE`` of a command line: what is typed, and what stands there, say what is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigError

# Keys of files, folders and names: what is typed is the text, commas and brackets included.
NAMES_OF_THINGS = re.compile(
    r'(^|[._])(root|file|dir|path|prefix|from|tmpl|name|annotations|images|checkpoint|data_prefix)$'
    r'|(^|\.)data_prefix\.'
)
LISTS_OF_NAMES = ('classes',)
# Texts of a config that stand for a number.
PLACEHOLDERS = ('auto', 'default', 'dynamic')
BRACKETS = {'(': ')', '[': ']', '{': '}'}
QUOTES = '\'"'


def split_option(item: str) -> tuple[str, str]:
    """``'a.b=1'`` to ``('a.b', '1')``.

    Raises:
        ConfigError: It is not of this form.
    """
    key, separator, text = item.partition('=')
    if not separator or not key:
        raise ConfigError(f'--cfg-options {item}: KEY=VALUE is needed')
    return key, text


def read_value(key: str, text: str, current: object = None) -> Any:
    """The value that is meant by the text of an override.

    Quotes around it make it a text, whatever it holds; ``None`` is None. Otherwise a key of a file,
    a folder or a name gets the text as it was typed. Elsewhere brackets and commas make lists and
    tuples, as in mmengine, their words with the spaces within; where the config has a text, what
    is typed is one, else numbers, ``true`` and ``false`` are what they look like. Where it has a
    tuple without further ones in it, so it does afterwards: ``96,96`` in the place of (416, 416).

    Args:
        key: ``'a.b.0.c'``.
        text: What was typed behind the ``=``, after the shell.
        current: What the config has there now.

    Raises:
        ConfigError: Brackets or quotes do not match; a dict.
    """
    if _is_quoted(text):
        return text[1:-1]
    if text.strip() == 'None':
        return None
    if (current is None or isinstance(current, str)) and NAMES_OF_THINGS.search(key):
        return text
    try:
        value = _read(text, _are_words(key, current))
    except ValueError as error:
        raise ConfigError(f'--cfg-options {key}={text}: {error}') from error
    both = _is_flat(value) and _is_flat(current)
    return tuple(value) if both and isinstance(current, tuple) else value


def _is_flat(value: object) -> bool:
    """Whether this is a list or tuple without lists or tuples in it."""
    sequences = list | tuple
    return isinstance(value, sequences) and not any(isinstance(v, sequences) for v in value)


def _are_words(key: str, current: object) -> bool:
    """Whether single values are texts here, even where they look like numbers."""
    if isinstance(current, str):
        return current not in PLACEHOLDERS
    if key.rpartition('.')[2] in LISTS_OF_NAMES:
        return True
    is_list = isinstance(current, Sequence) and len(current) > 0
    return is_list and all(isinstance(item, str) for item in current)


def _read(text: str, words: bool) -> Any:
    stripped = text.strip()
    if _is_quoted(stripped):
        return stripped[1:-1]
    if stripped[:1] == '{' and stripped[-1:] == '}':
        raise ValueError('a dict cannot be given; give its keys one by one: KEY.NAME=VALUE')
    inner = _inside_brackets(stripped)
    if inner is not None:
        items = [_read(item, words) for item in _split(inner)]
        return tuple(items) if stripped[0] == '(' else items
    if ',' in stripped and len(parts := _split(stripped)) > (0 if stripped[-1] == ',' else 1):
        return [_read(item, words) for item in parts]
    if stripped == 'None':
        return None
    return text.strip() if words else _read_word(stripped)


def _read_word(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return {'true': True, 'false': False}.get(word.lower(), word)


def _is_quoted(text: str) -> bool:
    """Whether one pair of quotes holds the whole."""
    return len(text) > 1 and text[0] in QUOTES and text.find(text[0], 1) == len(text) - 1


def _inside_brackets(text: str) -> str | None:
    """What stands within ``(...)`` or ``[...]`` around the whole, or None."""
    if text[:1] not in ('(', '['):
        return None
    end = next((index for index, depth in _depths(text) if depth == 0), None)
    if end is None:
        raise ValueError('brackets do not match')
    return text[1:end] if end == len(text) - 1 else None


def _split(text: str) -> list[str]:
    """The parts between commas outside of brackets and quotes; a last comma adds none."""
    cuts = [index for index, depth in _depths(text) if depth == 0 and text[index] == ',']
    parts = [text[a + 1 : b] for a, b in zip([-1, *cuts], [*cuts, len(text)], strict=True)]
    if not parts[-1].strip():
        parts.pop()
    if any(not part.strip() for part in parts):
        raise ValueError('nothing stands between two commas')
    return parts


def _depths(text: str):
    """``(index, depth)`` of each character outside of quotes, an opening bracket's from 1.

    A quote counts where an item begins with it: ``it's`` is a word.
    """
    expected: list[str] = []
    quote, begins = '', True
    for index, character in enumerate(text):
        if quote:
            quote = '' if character == quote else quote
            continue
        if begins and character in QUOTES:
            quote = character
        elif character in BRACKETS:
            expected.append(BRACKETS[character])
        elif character in BRACKETS.values() and (not expected or expected.pop() != character):
            raise ValueError('brackets do not match')
        begins = character in ',([' or (begins and character.isspace())
        yield index, len(expected)
    if quote:
        raise ValueError('quotes do not match')
    if expected:
        raise ValueError('brackets do not match')


def check_path(cfg: Mapping, key: str) -> None:
    """Refuse a key that leads into a list at no index of it, or below a value without keys.

    Raises:
        ConfigError: Names the part of the key that cannot be followed, and what can.
    """
    node: Any = dict(cfg.items())  # mmengine's Config is no Mapping
    parts = key.split('.')
    for place, part in enumerate(parts):
        above = '.'.join(parts[:place])
        if isinstance(node, list | tuple):
            if not part.isdecimal() or int(part) >= len(node):
                known = f'give an index from 0 to {len(node) - 1}' if node else 'it is empty'
                raise ConfigError(
                    f'--cfg-options {key}: {above} is a list of {len(node)} and has no {part!r}; '
                    f'{known}'
                )
            node = node[int(part)]
        elif isinstance(node, Mapping):
            if part not in node:
                return
            node = node[part]
        else:
            raise ConfigError(f'--cfg-options {key}: {above} is {node!r} and has no {part!r}')


def look_up(cfg: Mapping, key: str) -> Any:
    """What a config has at ``'a.b.0.c'``; None where there is nothing."""
    node: Any = dict(cfg.items())  # mmengine's Config is no Mapping
    for part in key.split('.'):
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list | tuple) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node
