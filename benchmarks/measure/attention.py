"""What attention costs inside a network: multiply-adds and time.

An attention layer projects tokens to queries, keys and values, lets its mechanism work on them, and
projects the result. The mechanism is all that lies between those projections: products of queries,
keys and values, a depthwise convolution of the values (Castling-ViT), pooling and relative
positions (MViTv2). Feature maps, norms and softmax are element by element and count as nothing, as
everywhere in this counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import NamedTuple

from torch import Tensor, nn

from effvit_mm.attention import CrossAttention, ShiftedWindowAttention
from effvit_mm.backbones import levit, mvitv2, transformer
from effvit_mm.flops import evaluation_mode, flops_by_module

from .timing import call_alternately, seconds_of

# Every class of attention layer in our networks; all that is measured here goes by this tuple.
ATTENTION_LAYERS = (
    CrossAttention,
    ShiftedWindowAttention,
    levit.BiasedAttention,
    mvitv2.PoolingAttention,
    transformer.Attention,
)


class AttentionCost(NamedTuple):
    """Multiply-adds of one forward pass.

    Attributes:
        mechanism: Of what lies between the projections, in all attention layers.
        layers: Of the attention layers, projections included.
        model: Of the whole model.
    """

    mechanism: int
    layers: int
    model: int


def attention_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The attention layers of a network of ours, by name."""
    return {k: m for k, m in model.named_modules() if isinstance(m, ATTENTION_LAYERS)}


def attention_flops(model: nn.Module, x: Tensor) -> AttentionCost:
    """Count a network of ours and the attention in it; see :func:`flops_by_module`."""
    counts = {name: by_operator.total() for name, by_operator in flops_by_module(model, x).items()}
    layers = projections = 0
    for name, layer in attention_layers(model).items():
        layers += counts.get(name, 0)
        for inner, module in layer.named_modules():
            # A linear layer inside a user's mechanism belongs to that.
            if isinstance(module, nn.Linear) and not inner.startswith('mechanism.'):
                projections += counts.get(f'{name}.{inner}', 0)
    return AttentionCost(layers - projections, layers, counts[''])


class Latency(NamedTuple):
    """Seconds of one forward pass.

    Attributes:
        mechanism: Of the attention mechanisms alone, in all layers that have them as a module.
        model: Of the whole model.
    """

    mechanism: float
    model: float


class MechanismStopwatch:
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


def latency_alternately(
    models: Sequence[nn.Module], x: Tensor, repeats: int = 5, warm_up: int = 1
) -> list[Latency]:
    """Median latency of models in evaluation mode, on the CPU, in alternation.

    Args:
        models: Called with ``x``.
        x: The batch.
        repeats: Timed passes of each model.
        warm_up: Passes of each before those.
    """
    passes = [partial(time_pass, model, x) for model in models]
    return [
        Latency(median(run.mechanism for run in runs), median(run.model for run in runs))
        for runs in call_alternately(passes, repeats, warm_up)
    ]


def time_pass(model: nn.Module, x: Tensor) -> Latency:
    """Time one forward pass in evaluation mode."""
    watch = MechanismStopwatch(model)
    try:
        with evaluation_mode(model):
            return Latency(model=seconds_of(partial(model, x)), mechanism=watch.elapsed)
    finally:
        watch.remove()
