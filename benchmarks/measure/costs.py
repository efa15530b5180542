"""Memory, counts and the time of a pass, of the workload of this process."""

from __future__ import annotations

import ctypes
import os
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


def convert(workload: tuple, threads: int) -> float | None:
    """Have the file of a workload's network made that its runtime reads.

    Args:
        workload: The fields of a :class:`.workload.Workload` with a runtime and a cache.
        threads: Of PyTorch and the runtime.

    Returns:
        Seconds that ``effvit_mm.compile`` took; None where the file was in the cache.
    """
    torch.set_num_threads(threads)
    workload = Workload(*workload)
    before = set(os.listdir(workload.cache))
    part, *_ = load(workload).values()
    return None if set(os.listdir(workload.cache)) == before else part.compiling


def begin(workload: tuple, threads: int) -> dict[str, tuple]:
    """Load the workload of this process, and measure all but its time.

    Args:
        workload: The fields of a :class:`.workload.Workload`; what its runtime reads is made.
        threads: Of PyTorch and the runtime.

    Returns:
        ``{name of a part: fields of its Cost}``.
    """
    torch.set_num_threads(threads)
    workload = Workload(*workload)
    loaded_parts.update(load(workload))
    if COMPILED in workload.form:  # the compiler's memory is none of the network's
        run_all(loaded_parts)
    costs = measure_costs(loaded_parts, lays_out=workload.runtime is not None)
    return {name: tuple(cost) for name, cost in costs.items()}


def run_all(parts: Mapping[str, Part]) -> None:
    """A pass of each."""
    for part in parts.values():
        part.run()


def seconds(name: str) -> float:
    """Time of one pass of a part, behind one that brings its weights and code into the caches, and
    its threads out of their sleep: what was there is gone since the last pass.
    """
    run = loaded_parts[name].run
    run()
    start = perf_counter()
    run()
    return perf_counter() - start


def measure_costs(parts: Mapping[str, Part], lays_out: bool = False) -> dict[str, Cost]:
    """Run each part and see what it costs.

    The whole is first in ``parts`` and is run last: it needs more than what it consists of, and
    what that frees may stay with the process.

    Args:
        parts: By name.
        lays_out: The first pass arranges weights and memory for all that follow, as a runtime's
            does. What it leaves is counted, not what it takes for a while.
    """
    peaks: dict[str, tuple[int, int]] = {}
    give_back_freed_memory()
    before = resident_bytes()
    if lays_out:
        run_all(parts)
        give_back_freed_memory()
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
