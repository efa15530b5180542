"""Which attention a host network runs, from a config."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..attention import (
    EAttention,
    LinearAngularAttention,
    LinearAttention,
    SampledSoftmaxAttention,
    SoftmaxAttention,
)
from ..openmm.registry import MODELS

MECHANISMS = (
    EAttention,
    LinearAngularAttention,
    LinearAttention,
    SampledSoftmaxAttention,
    SoftmaxAttention,
)
for _mechanism in MECHANISMS:
    MODELS.register_module(module=_mechanism)


def build_attention(
    attention: Mapping | None, num_heads: int, key_dim: int, value_dim: int
) -> nn.Module:
    """Build the mechanism of one attention layer.

    Args:
        attention: ``dict(type='SoftmaxAttention', ...)`` with the mechanism's options; its type is
            one of ours or a user's own, registered in ``effvit_mm.registry.MODELS``. None is
            softmax attention.
        num_heads, key_dim, value_dim: Heads, and widths of one head.

    Raises:
        TypeError: ``attention`` is no dict with a ``type``.
        ValueError: Nothing is registered under its type.
    """
    attention = {'type': 'SoftmaxAttention'} if attention is None else attention
    if not isinstance(attention, Mapping) or 'type' not in attention:
        raise TypeError(f"attention={attention!r}: a dict with a 'type' is needed")
    # Not MODELS.build: that looks in the registry of the default scope, which is mmpretrain's or
    # mmdet's while one of their models is built. And get() imports mmpretrain before it looks.
    mechanism = MODELS.module_dict.get(attention['type']) or MODELS.get(attention['type'])
    if mechanism is None:
        raise ValueError(
            f'attention type {attention["type"]!r} is not registered; there are '
            f'{", ".join(cls.__name__ for cls in MECHANISMS)}, and what you register in '
            'effvit_mm.registry.MODELS'
        )
    options = {key: value for key, value in attention.items() if key != 'type'}
    return mechanism(num_heads=num_heads, key_dim=key_dim, value_dim=value_dim, **options)
