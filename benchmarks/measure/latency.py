"""How long networks take on this machine's CPU, side by side."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from effvit_mm.flops import evaluation_mode

from .attention import attention_layers

Result = TypeVar('Result')
# By their flag in Linux's /proc/cpuinfo.
VECTOR_UNITS = {'avx2': 'AVX2', 'avx512f': 'AVX-512', 'amx_bf16': 'AMX'}


class Timing(NamedTuple):
    """Seconds that something took, over several runs.

    Attributes:
        median: Half of the runs took less.
        low, high: A quarter of them took less than ``low``, a quarter more than ``high``.
    """

    median: float
    low: float
    high: float


class Latency(NamedTuple):
    """Seconds of one forward pass.

    Attributes:
        mechanism: Of the attention mechanisms alone, in all layers that have them as a module.
        model: Of the whole model.
    """

    mechanism: float
    model: float


class _Stopwatch:
    """Adds up the time that a model spends in its attention mechanisms."""

    def __init__(self, model: nn.Module) -> None:
        self.elapsed = self._start = 0.0
        self._handles = []
        for layer in attention_layers(model).values():
            if (mechanism := getattr(layer, 'mechanism', None)) is not None:
                self._handles.append(mechanism.register_forward_pre_hook(self._begin))
                self._handles.append(mechanism.register_forward_hook(self._end))

    def _begin(self, *_) -> None:
        self._start = perf_counter()

    def _end(self, *_) -> None:
        self.elapsed += perf_counter() - self._start

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def interleaved_latency(
    models: Sequence[nn.Module], x: Tensor, repeats: int = 5, warm_up: int = 1
) -> list[Latency]:
    """Median latency of each model on ``x`` in evaluation mode, on the CPU.

    The models take turns, see :func:`take_turns`.

    Args:
        models: Called with ``x``.
        x: The batch.
        repeats: Timed passes of each model.
        warm_up: Passes of each before those.
    """
    passes = take_turns([partial(_one_pass, model, x) for model in models], repeats, warm_up)
    return [
        Latency(median(p.mechanism for p in found), median(p.model for p in found))
        for found in passes
    ]


def interleaved_timings(
    passes: Sequence[Callable[[], float]], repeats: int = 20, warm_up: int = 2
) -> list[Timing]:
    """Time passes in turns, see :func:`take_turns`; each gives the seconds that it took."""
    found = take_turns(passes, repeats, warm_up)
    return [Timing(median(runs), *_quartiles(runs)) for runs in found]


def take_turns(
    functions: Sequence[Callable[[], Result]], repeats: int, warm_up: int
) -> list[list[Result]]:
    """What functions return that are called in turns, A B A B ...

    Whatever else the machine does meets all alike.

    Args:
        functions: Called without arguments.
        repeats: Calls of each that count.
        warm_up: Calls of each before those.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(f'repeats={repeats}, warm_up={warm_up}: 1 or more, 0 or more are needed')
    results: list[list[Result]] = [[] for _ in functions]
    for turn in range(warm_up + repeats):
        for function, found in zip(functions, results, strict=True):
            result = function()
            if turn >= warm_up:
                found.append(result)
    return results


def _quartiles(runs: Sequence[float]) -> tuple[float, float]:
    if len(runs) == 1:
        return runs[0], runs[0]
    low, _, high = quantiles(runs, n=4, method='inclusive')
    return low, high


def _one_pass(model: nn.Module, x: Tensor) -> Latency:
    watch = _Stopwatch(model)
    try:
        with evaluation_mode(model):
            start = perf_counter()
            model(x)
            return Latency(watch.elapsed, perf_counter() - start)
    finally:
        watch.remove()


def describe_machine() -> str:
    """Processor, threads and versions that latency depends on, in one line."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(':') for x in lines)}
    name = facts.get('model name') or platform.processor() or platform.machine()
    flags = facts.get('flags', '').split()
    units = [unit for flag, unit in VECTOR_UNITS.items() if flag in flags]
    cores = os.cpu_count() or 1
    threads = torch.get_num_threads()
    return (
        f'{", ".join((name, f"{cores} core" + "s" * (cores > 1), *units))}, '
        f'{threads} thread{"s" * (threads > 1)}, PyTorch {torch.__version__}'
    )
