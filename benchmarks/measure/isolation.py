"""Work in a process of its own, which shows its peak memory and may be stopped by it."""

from __future__ import annotations

import logging
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch
from mmengine.logging import MMLogger

from effvit_mm.errors import UserError
from effvit_mm.openmm.console import silence_third_parties
from effvit_mm.utils.allocator import keep_freed_memory

from .memory import need_linux, peak_bytes, resident_bytes

GB = 10**9
POLL_SECONDS = 0.2


class OutOfBoundsError(UserError):
    """Work took more memory than it was allowed and was stopped."""


class FailedError(RuntimeError):
    """Work in another process raised; the message is its last line, ``details`` its traceback."""

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message)
        self.details = details


class Isolated(NamedTuple):
    """What a function returned in a process of its own, and the peak of that process in bytes."""

    result: Any
    peak: int


def run_isolated(function: Callable, *args: Any, limit: int | None = None) -> Isolated:
    """Call a function in a fresh process, one that imports only what it needs.

    Args:
        function: Of a module's top level; it, ``args`` and what it returns are pickled.
        limit: Stop the process when its resident memory exceeds this, in bytes.

    Raises:
        OutOfBoundsError: It was stopped for that.
        UserError: As the function raised it.
        FailedError: The function raised another error, or the process ended without an answer.
    """
    need_linux()
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
        connection.send(Isolated(*answer))


def _await(process: BaseProcess, connection: Connection, limit: int | None) -> Isolated:
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
    if isinstance(answer, Isolated):
        return answer
    if isinstance(answer, UserError):
        raise answer
    raise FailedError(*answer)


def _resident_or_zero(pid: int) -> int:
    """A process that has just ended has no memory; its answer, or its end, comes next."""
    try:
        return resident_bytes(pid)
    except (OSError, LookupError):
        return 0
