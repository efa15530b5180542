"""Errors that are meant to be read by the person who runs a command.

The tools print such an error as one line and exit with 2; anything else is a fault of ours (or of
a library) and keeps its traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = ('tools', 'benchmarks')


class UserError(ValueError):
    """Something the user gave (an argument, a file, a config key) cannot be used."""


class ConfigError(UserError):
    """A config key has a value that cannot work; the message names key, value and choices."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, or does not belong to the model."""


class DataError(UserError):
    """A data set is missing, empty or broken; the message names folder or file."""


class MissingDataError(DataError):
    """A file or folder of a data set is not where it is looked for; the message has its path."""


class CorruptImageError(DataError):
    """An image file cannot be decoded; the message names it and its fault."""


class ImageSizeError(DataError):
    """Images are smaller than a network can take; the message names both sizes."""


class MissingPackageError(ModuleNotFoundError):
    """A package that effvit_mm needs is not installed; the message says what brings it."""


def tell_missing_packages() -> None:
    """Have a program of this repository that lacks a package end in a line, not in a traceback.

    The command lines do so for all errors, but need these packages to be loaded.
    """
    program = Path(getattr(sys.modules['__main__'], '__file__', None) or '').resolve()
    if not any(REPOSITORY / folder in program.parents for folder in PROGRAMS):
        return
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, MissingPackageError) or '--debug' in sys.argv:
            return show(kind, error, trace)
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)

    sys.excepthook = hook
