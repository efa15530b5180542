"""Libraries that have something to say while they are imported."""

from __future__ import annotations

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
