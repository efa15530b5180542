"""How far a long work is: a bar on a terminal, lines now and then where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

SILENCE = 60.0  # seconds, as of a training

Item = TypeVar('Item')


def with_progress(items: Iterable[Item], doing: str, total: int | None) -> Iterable[Item]:
    """The items, with what is said meanwhile on standard error.

    Args:
        items: What comes.
        doing: In a word or two.
        total: How many there are, where it is known.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        return track(items, doing, total, console=console)
    return _with_lines(items, doing, total)


def _with_lines(items: Iterable[Item], doing: str, total: int | None) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= SILENCE:
            last = now
            each = (now - start) / done
            text = f'{doing}: {done}'
            if total is not None:
                text += f' of {total}, {_clock(max(total - done, 0) * each)} to go'
            print(f'{text}, {1 / each:.3g} a second' if each else text, file=sys.stderr, flush=True)
        yield item


def _clock(seconds: float) -> str:
    """``'1:02:03'``."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{rest:02d}'
