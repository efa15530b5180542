"""Arguments of a command line that a flag in front of them took as its values."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

REQUIRED = 'the following arguments are required: '  # argparse's


def describe_swallowed(parser: argparse.ArgumentParser, words: Sequence[str], message: str) -> str:
    """The end of argparse's message about arguments that are missing, where a flag may have them.

    ``--cfg-options a=1 mine.py`` reads ``mine.py`` as one more value of the flag.
    """
    names = message.removeprefix(REQUIRED).split(', ') if message.startswith(REQUIRED) else []
    missing = [name for name in names if not name.startswith('-')]
    if not missing:
        return ''
    for flag, values in _values_of_flags(parser, words):
        taken = values[-len(missing) :]
        if taken:
            number = 'was read as a value' if len(taken) == 1 else 'were read as values'
            return f'; {" ".join(taken)} {number} of {flag}: put {missing[0]} before it'
    return ''


def _values_of_flags(
    parser: argparse.ArgumentParser, words: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """Flags that take any number of texts, or perhaps one, and what they got; ``KEY=VALUE`` where
    it is asked for left out."""
    for place, word in enumerate(words):
        action = parser._option_string_actions.get(word)
        if action is None or action.nargs not in ('?', '*', '+') or action.type or action.choices:
            continue
        values = []
        for value in words[place + 1 :]:
            if value.startswith('-') or (action.nargs == '?' and values):
                break
            values.append(value)
        paired = '=' in str(action.metavar)
        yield word, [value for value in values if not (paired and '=' in value)]
