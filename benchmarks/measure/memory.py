"""Peak memory of a piece of work, measured in a process of its own.

The peak is the resident set's high-water mark that Linux keeps (``VmHWM``): all memory of the
process, libraries and buffers of every allocator included. ``getrusage``'s maximum is not taken,
since a child process begins with its parent's.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from effvit_mm.errors import UserError
from effvit_mm.openmm.console import silence_third_parties
from effvit_mm.utils.allocator import keep_freed_memory

GB = 10**9
POLL_SECONDS = 0.2
RESET_PEAK = '5'  # the kernel's code for it in clear_refs


class OutOfBoundsError(UserError):
    """Work took more memory than it was allowed and was stopped."""


class FailedError(RuntimeError):
    """Work in another process raised; the message is its last line, ``details`` its traceback."""

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message)
        self.details = details


class Apart(NamedTuple):
    """What a function returned in a process of its own, and the peak of that process in bytes."""

    result: Any
    peak: int


def resident_bytes(pid: int | str = 'self') -> int:
    """Resident memory of a process now."""
    return _status('VmRSS', pid)


def peak_bytes(pid: int | str = 'self') -> int:
    """Largest resident memory of a process since its start, or since :func:`reset_peak`."""
    return _status('VmHWM', pid)


def reset_peak() -> None:
    """Let the peak of this process start anew from what is resident now."""
    _need_linux()
    Path('/proc/self/clear_refs').write_text(RESET_PEAK)


def run_apart(function: Callable, *args: Any, limit: int | None = None) -> Apart:
    """Call a function in a fresh process, one that imports only what it needs.

    Args:
        function: Of a module's top level; it, ``args`` and what it returns are pickled.
        limit: Stop the process when its resident memory exceeds this, in bytes.

    Raises:
        OutOfBoundsError: It was stopped for that.
        UserError: As the function raised it.
        FailedError: The function raised another error, or the process ended without an answer.
    """
    _need_linux()
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, args), daemon=True)
    process.start()
    theirs.close()
    try:
        return _await(process, ours, limit)
    finally:
        process.kill()
        process.join()
        ours.close()


def begin_as_tool(threads: int) -> None:
    """Do in a fresh process what our tools do at their start, so that memory is what theirs is."""
    from mmengine.logging import MMLogger

    silence_third_parties()
    keep_freed_memory()
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # else a line for each parameter
    torch.set_num_threads(threads)


def _answer(connection: Connection, function: Callable, args: tuple) -> None:
    try:
        answer = (function(*args), peak_bytes())
    except UserError as error:
        connection.send(type(error)(str(error)))
    except Exception as error:
        text = f'{type(error).__name__}: {" ".join(str(error).split())}'
        connection.send((text, traceback.format_exc()))
    else:
        connection.send(Apart(*answer))


def _await(process: BaseProcess, connection: Connection, limit: int | None) -> Apart:
    while not connection.poll(POLL_SECONDS):
        if limit is not None and (now := _resident_or_zero(process.pid)) > limit:
            raise OutOfBoundsError(
                f'stopped at {now / GB:.1f} GB: more than {limit / GB:.1f} GB were not allowed'
            )
    try:
        answer = connection.recv()
    except EOFError:
        process.join()
        raise FailedError(f'the process ended with code {process.exitcode}', '') from None
    if isinstance(answer, Apart):
        return answer
    if isinstance(answer, UserError):
        raise answer
    raise FailedError(*answer)


def _resident_or_zero(pid: int) -> int:
    """A process that has just ended has no memory; its answer, or its end, is found next."""
    try:
        return resident_bytes(pid)
    except (OSError, LookupError):
        return 0


def _status(key: str, pid: int | str) -> int:
    _need_linux()
    match = re.search(rf'^{key}:\s+(\d+) kB$', Path(f'/proc/{pid}/status').read_text(), re.M)
    if match is None:
        raise LookupError(f'/proc/{pid}/status has no {key}')
    return int(match[1]) * 1024


def _need_linux() -> None:
    if sys.platform != 'linux':
        raise UserError(f'peak memory is measured on Linux only, not on {sys.platform}')
