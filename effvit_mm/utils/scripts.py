"""Other libraries' scripts, run as they are in a process that was made ready for them."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UserError


def run_as_main(script: str, arguments: Sequence[str]) -> None:
    """Run a file as ``python script arguments`` would, in this process.

    Raises:
        UserError: There is no such file.
    """
    if not Path(script).is_file():
        raise UserError(f'{script}: no such script')
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    runpy.run_path(script, run_name='__main__')


def script_main(module: str, run: Callable[[str, Sequence[str]], None]) -> None:
    """What ``python -m module SCRIPT [ARGUMENT ...]`` does; errors are one line."""
    if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help'):
        sys.exit(f'usage: python -m {module} SCRIPT [ARGUMENT ...]')
    try:
        run(sys.argv[1], sys.argv[2:])
    except UserError as error:
        sys.exit(f'error: {error}')
