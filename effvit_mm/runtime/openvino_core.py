"""OpenVINO's core of this process, and the stack that its CPU plugin gives to signals."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from .graph import need

if TYPE_CHECKING:
    from openvino import Core


@cache
def core() -> Core:
    """The one core of this process, which is never let go.

    OpenVINO's CPU plugin, one a core, gives its thread another stack for signals, and puts the
    former one back when it goes. Plugins that go in the order in which they came leave the stack of
    one that is gone, in memory that is returned: the next signal with a handler, as at the end of
    any child process, kills Python (OpenVINO 2026.4.1; ``findings/openvino_signal_stack.sh``).

    Raises:
        ExportError: OpenVINO is missing.
    """
    return need('openvino').Core()


class _SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (('base', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """This thread's stack for signals afterwards is the one before: for code with cores of its own.

    See :func:`core`. Elsewhere than on Linux it does nothing.
    """
    if sys.platform != 'linux':
        yield
        return
    library, stack = ctypes.CDLL(None, use_errno=True), _SignalStack()
    library.sigaltstack(None, ctypes.byref(stack))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(stack), None)
