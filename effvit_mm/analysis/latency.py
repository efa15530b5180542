"""How long networks take on this machine's CPU, side by side."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .attention import attention_layers
from .flops import evaluation_mode


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

    The models take turns (A B A B ...), so that whatever else the machine does meets all alike.

    Args:
        models: Called with ``x``.
        x: The batch.
        repeats: Timed passes of each model.
        warm_up: Passes of each before those.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(f'repeats={repeats}, warm_up={warm_up}: 1 or more, 0 or more are needed')
    passes: list[list[Latency]] = [[] for _ in models]
    for turn in range(warm_up + repeats):
        for model, found in zip(models, passes, strict=True):
            latency = _one_pass(model, x)
            if turn >= warm_up:
                found.append(latency)
    return [
        Latency(median(p.mechanism for p in found), median(p.model for p in found))
        for found in passes
    ]


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
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    threads = torch.get_num_threads()
    return (
        f'{names[0] if names else platform.processor() or platform.machine()}, '
        f'{threads} thread{"s" * (threads > 1)}, PyTorch {torch.__version__}'
    )
