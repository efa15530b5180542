"""Libraries that have something to say while they are imported."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO


@contextmanager
def silent_imports() -> Iterator[None]:
    """Keep to ourselves what is printed and warned of within the block.

    mmpretrain and mmdet print that OneDL's platform is not installed, and mmdet 3.5 warns of each
    package that it could use and that is missing.
    """
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


@contextmanager
def silent_logging() -> Iterator[None]:
    """Leave out what is logged without a logger within the block, but for errors.

    Such a call gives the root logger a handler where it has none, which then shows what all
    libraries log.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
