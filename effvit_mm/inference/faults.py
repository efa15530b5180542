"""Errors of images that are left out: named, and counted."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from ..errors import DataError
from ..openmm.cli import EXIT_USER_ERROR

FRAME = re.compile(r', frame \d+')  # as `videos.Image` calls one


def print_warning(text: str) -> None:
    """A line on standard error."""
    print(f'warning: {text}', file=sys.stderr, flush=True)


class Faults:
    """Takes errors of images that are left out: names each in a line, counts them.

    Of frames of a video with one fault the first is named.

    Args:
        tell: Gets the line.
    """

    def __init__(self, tell: Callable[[str], None] = print_warning) -> None:
        self.tell, self.count = tell, 0
        self._told: set[str] = set()

    def __call__(self, error: DataError) -> None:
        self.count += 1
        text = str(error)
        alike = FRAME.sub('', text)
        if alike == text or alike not in self._told:
            self.tell(text)
        if alike != text:
            self._told.add(alike)

    def conclude(self, results: int, where: str = '') -> None:
        """Tell at the end how many there were; nothing where there were none.

        Args:
            results: How many there are of the rest.
            where: In which file or folder they are.
        """
        if not self.count:
            return
        rest = f'; {results} are in {where}' if where and results else ''
        code = f' (exit code {self.exit_code})' if self.tell is print_warning else ''
        self.tell(f'{self.count} of {self.count + results} left out, named above{rest}{code}')

    @property
    def exit_code(self) -> int:
        return EXIT_USER_ERROR if self.count else 0
