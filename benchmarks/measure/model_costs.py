"""What networks cost, and what another attention saves against softmax in the same network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from effvit_mm.attention import EAttention, LinearAttention, SampledSoftmaxAttention
from effvit_mm.flops import count_parameters
from effvit_mm.models import create_model

from .attention import AttentionCost, Latency, attention_flops, latency_alternately

SEED = 0
# Mechanisms that cannot be counted on the meta device: they choose tokens by their values, or turn
# autocast off, which that device does not have.
NEED_VALUES = (EAttention, LinearAttention, SampledSoftmaxAttention)


class Variant(NamedTuple):
    """A network to compare: how a table calls it, its name, and arguments of its backbone."""

    label: str
    name: str
    options: Mapping = {}


class Measured(NamedTuple):
    """What one network costs for one square image.

    Attributes:
        cost: Multiply-adds.
        parameters: Their number.
        kept: Patch tokens left after the last block; None where none are dropped.
        latency: Where it was measured.
    """

    cost: AttentionCost
    parameters: int
    kept: int | None = None
    latency: Latency | None = None

    def saved(self, baseline: Measured) -> AttentionCost:
        """The share of the baseline's multiply-adds that is saved; negative where it costs more."""
        pairs = zip(self.cost, baseline.cost, strict=True)
        return AttentionCost(*(1 - own / other for own, other in pairs))


def deit_variants(arch: str, size: int, family: str) -> list[Variant]:
    """The networks of a family with DeiT as their host.

    Args:
        arch: ``'tiny'``, ``'small'`` or ``'base'``.
        size: Side of the image in pixels, which settles the numbers of sample points.
        family: ``'deit'``, ``'lightweight_vit'`` (linear attention alone, by two feature maps, then
            with token sampling at as many points as there are patches, half and a quarter of them)
            or ``'castling_deit'``.
    """
    name, patches = f'{family}_{arch}', (size // 16) ** 2
    if family == 'deit':
        return [Variant('softmax', name)]
    if family == 'castling_deit':
        return [Variant('linear-angular', name)]
    e_attention = {'type': 'EAttention'}
    return [
        Variant('linear, ReLU', name, _linear_alone(e_attention | {'feature_map': 'relu'})),
        Variant('linear, cosFormer', name, _linear_alone(e_attention)),
        Variant('e-attention', name),
        *(
            Variant(
                f'e-attention, {points} points',
                name,
                {'attention': e_attention | {'num_samples': points}},
            )
            for points in (patches // 2, patches // 4)
        ),
    ]


def _linear_alone(attention: dict) -> dict:
    return {'attention': attention, 'sampled_blocks': ()}


def build(variant: Variant, device: str = 'cpu') -> nn.Module:
    """The network in evaluation mode, its weights random, the same ones at each call."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(SEED)
        return create_model(variant.name, **variant.options).eval()


def noise(size: int) -> Tensor:
    """One image of normal noise, the same at each call: ``(1, 3, size, size)``."""
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(SEED))


def measure(variant: Variant, size: int) -> Measured:
    """Count one network on one square image.

    Where tokens are sampled the count is that of :func:`build`'s weights on :func:`noise`; in all
    other networks it depends on nothing but the size.
    """
    model, x = build(variant, 'meta'), torch.empty(1, 3, size, size, device='meta')
    if any(isinstance(module, NEED_VALUES) for module in model.modules()):
        model, x = build(variant), noise(size)
    cost = attention_flops(model, x)
    kept = getattr(model.backbone, 'kept_tokens', None)
    return Measured(cost, count_parameters(model), int(kept[-1]) if kept else None)


def compare(variants: Sequence[Variant], size: int, repeats: int = 0) -> list[Measured]:
    """Count networks on one square image; deploy and time them too where ``repeats`` is not 0."""
    measured = [measure(variant, size) for variant in variants]
    if not repeats:
        return measured
    models = [build(variant).switch_to_deploy() for variant in variants]
    latencies = latency_alternately(models, noise(size), repeats)
    return [m._replace(latency=one) for m, one in zip(measured, latencies, strict=True)]
