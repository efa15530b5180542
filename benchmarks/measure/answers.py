"""What a benchmark asks of the process of a subject: memory, counts, and the time of a pass."""

from __future__ import annotations

import ctypes
import platform
from time import perf_counter
from typing import NamedTuple

from .candidates import Part, prepare
from .memory import begin_as_tool, peak_bytes, reset_peak, resident_bytes
from .subjects import COMPILED, Subject

MEMORY_PASSES = 2  # an optimizer makes its state in the first


class Cost(NamedTuple):
    """What a part costs besides time.

    Attributes:
        memory: Largest resident memory above that before the first pass, bytes.
        process: Largest resident memory of the whole process, bytes.
        multiply_adds, parameters: See :class:`.candidates.Part`.
    """

    memory: int
    process: int
    multiply_adds: int
    parameters: int


parts: dict[str, Part] = {}  # of this process


def begin(subject: Subject, threads: int) -> dict[str, tuple]:
    """Prepare the subject of this process, and measure its memory.

    The whole model is run last: it needs more than its parts, and what they free may stay with the
    process.

    Returns:
        ``{name of a part: Cost}``, as plain tuples.
    """
    begin_as_tool(threads)
    parts.update(prepare(subject))
    peaks: dict[str, tuple[int, int]] = {}
    if COMPILED in subject.form:  # the compiler's memory is none of the network's
        for part in parts.values():
            part.run()
    give_back_freed_memory()
    before = resident_bytes()
    for name in reversed(parts):
        reset_peak()
        for _ in range(MEMORY_PASSES):
            parts[name].run()
        peak = peak_bytes()
        peaks[name] = (peak - before, peak)
    return {
        name: tuple(Cost(*peaks[name], part.count(), part.parameters))
        for name, part in parts.items()
    }


def seconds(name: str) -> float:
    """Time of one pass of a part, behind one that brings its weights and code into the caches, and
    its threads out of their sleep: what was there is gone since its last turn.
    """
    run = parts[name].run
    run()
    start = perf_counter()
    run()
    return perf_counter() - start


def give_back_freed_memory() -> None:
    """Have glibc return what is free to the system: else the peak would hide in it."""
    if platform.libc_ver()[0] == 'glibc':
        ctypes.CDLL(None).malloc_trim(0)
