"""Reading along: what a library's function computes, and its caller throws away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def tapped(owner: Any, name: str, record: Callable[[tuple, dict, Any], None]) -> Iterator[None]:
    """Call ``record(arguments, keyword arguments, result)`` after each call of ``owner.name``.

    Args:
        owner: A module or class; has its own function back after the block.
        name: Of the function.
        record: Must change nothing that it is given.
    """
    original = getattr(owner, name)

    def call(*args, **kwargs):
        result = original(*args, **kwargs)
        record(args, kwargs, result)
        return result

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)
