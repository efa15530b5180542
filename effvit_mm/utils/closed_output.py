"""Output that nobody reads any more, as behind ``| head``: a command ends there without a word."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable

STANDARD_OUTPUT = 1
EXIT_CLOSED = 141  # of programs that SIGPIPE ends


def until_closed(work: Callable[[], int]) -> int:
    """Run a command; gives its exit code, or 141 where standard output's reader has gone.

    Raises:
        BrokenPipeError: Of another pipe, as that of a data loader's worker.
    """
    try:
        code = work()
        sys.stdout.flush()  # what is wrong with it shows here, not when Python ends
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)  # for what is still buffered
        return EXIT_CLOSED
    return code


def _reader_has_gone() -> bool:
    poller = select.poll()
    poller.register(STANDARD_OUTPUT, 0)  # errors alone
    return bool(poller.poll(0))
