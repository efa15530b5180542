"""Arguments that several programs have: numbers, files to write, and the command itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from effvit_mm.errors import ConfigError
from effvit_mm.utils.files import check_writable


def check_positive(args: argparse.Namespace, *names: str) -> None:
    """Raise where one of these numbers, or of these lists of numbers, is not above 0."""
    for name in names:
        given = getattr(args, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and value <= 0:
                option = name.replace('_', '-')
                raise ConfigError(f'--{option} {value}: more than 0 is needed')


def check_out(out: str | None, *suffixes: str) -> None:
    """Raise where the file of ``--out`` cannot be written, or its name ends in none of these."""
    if out is not None:
        if not out.endswith(suffixes):
            raise ConfigError(f'--out {out}: a name ending in {" or ".join(suffixes)} is needed')
        check_writable(Path(out).parent, f'--out {out}')


def command_line(program: str, argv: Sequence[str] | None) -> str:
    """The command that was given, for a report to name."""
    words = sys.argv[1:] if argv is None else argv
    return ' '.join([f'python -m benchmarks.{program}', *words])
