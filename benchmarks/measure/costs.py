"""Memory, counts and the time of a pass, of the workload of this process."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from time import perf_counter
from typing import NamedTuple

import torch

from .loading import Part, load
from .memory import peak_bytes, reset_peak, resident_bytes
from .workload import COMPILED, Workload

MEMORY_PASSES = 2  # an optimizer makes its state in the first


class Cost(NamedTuple):
    """What a part costs besides time.

    Attributes:
        memory: Largest resident memory above that before the first pass, bytes.
        process: Largest resident memory of the whole process, bytes.
        multiply_adds: Of one image; of a training step, of its forward pass.
        parameters: Their number.
    """

    memory: int
    process: int
    multiply_adds: int
    parameters: int


loaded_parts: dict[str, Part] = {}


def begin(workload: tuple, threads: int) -> dict[str, tuple]:
    """Load the workload of this process, and measure all but its time.

    Args:
        workload: The fields of a :class:`.workload.Workload`.
        threads: Of PyTorch.

    Returns:
        ``{name of a part: fields of its Cost}``.
    """
    torch.set_num_threads(threads)
    workload = Workload(*workload)
    loaded_parts.update(load(workload))
    if COMPILED in workload.form:  # the compiler's memory is none of the network's
        for part in loaded_parts.values():
            part.run()
    return {name: tuple(cost) for name, cost in measure_costs(loaded_parts).items()}


def seconds(name: str) -> float:
    """Time of one pass of a part, behind one that brings its weights and code into the caches, and
    its threads out of their sleep: what was there is gone since the last pass.
    """
    run = loaded_parts[name].run
    run()
    start = perf_counter()
    run()
    return perf_counter() - start


def measure_costs(parts: Mapping[str, Part]) -> dict[str, Cost]:
    """Run each part and see what it costs.

    The whole is first in ``parts`` and is run last: it needs more than what it consists of, and
    what that frees may stay with the process.
    """
    peaks: dict[str, tuple[int, int]] = {}
    give_back_freed_memory()
    before = resident_bytes()
    for name in reversed(parts):
        reset_peak()
        for _ in range(MEMORY_PASSES):
            parts[name].run()
        peak = peak_bytes()
        peaks[name] = (peak - before, peak)
    return {name: Cost(*peaks[name], part.count(), part.parameters) for name, part in parts.items()}


def give_back_freed_memory() -> None:
    """Have glibc return what is free to the system: else the peak would hide in it."""
    if platform.libc_ver()[0] == 'glibc':
        ctypes.CDLL(None).malloc_trim(0)
