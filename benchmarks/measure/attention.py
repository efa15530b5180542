"""What attention costs inside a network.

An attention layer projects tokens to queries, keys and values, lets its mechanism work on them, and
projects the result. The mechanism is all that lies between those projections: products of queries,
keys and values, a depthwise convolution of the values (Castling-ViT), pooling and relative
positions (MViTv2). Feature maps, norms and softmax are element by element and count as nothing, as
everywhere in this counting.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from effvit_mm.attention import CrossAttention, ShiftedWindowAttention
from effvit_mm.backbones import levit, mvitv2, transformer
from effvit_mm.flops import flops_by_module

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
