"""Resident memory of a process and its peak.

The peak is the resident set's high-water mark that Linux keeps (``VmHWM``): all memory of the
process, libraries and buffers of every allocator included. ``getrusage``'s maximum is not taken,
since a child process begins with its parent's; psutil does not read the mark.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from effvit_mm.errors import UserError

RESET_PEAK = '5'  # the kernel's code for it in clear_refs


def resident_bytes(pid: int | str = 'self') -> int:
    """Resident memory of a process now."""
    return read_status('VmRSS', pid)


def peak_bytes(pid: int | str = 'self') -> int:
    """Largest resident memory of a process since its start, or since :func:`reset_peak`."""
    return read_status('VmHWM', pid)


def reset_peak() -> None:
    """Let the peak of this process start anew from what is resident now."""
    need_linux()
    Path('/proc/self/clear_refs').write_text(RESET_PEAK)


def read_status(key: str, pid: int | str) -> int:
    """A figure of Linux about a process, in bytes."""
    need_linux()
    match = re.search(rf'^{key}:\s+(\d+) kB$', Path(f'/proc/{pid}/status').read_text(), re.M)
    if match is None:
        raise LookupError(f'/proc/{pid}/status has no {key}')
    return int(match[1]) * 1024


def need_linux() -> None:
    """Raise where these figures do not exist."""
    if sys.platform != 'linux':
        raise UserError(f'peak memory is measured on Linux only, not on {sys.platform}')
