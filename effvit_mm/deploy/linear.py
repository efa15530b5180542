"""Linear layers, and what follows them, in one step of oneDNN's: for eager inference on the CPU.

The step multiplies by weights that were brought into oneDNN's own order once; they lie beside the
layer's, so that its state dict is what it was, and take as much memory again. PyTorch's own step
first copies the bias into the result.
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.caching import SizeCache
from ..attention.eager import on_onednn, runs_eagerly

# Multiply-adds below which oneDNN's call costs more than it saves.
LARGE_PRODUCT = 1 << 23


def packed_weights() -> SizeCache:
    """What the functions below keep for a layer; nothing, until it is set active."""
    return SizeCache(budget=sys.maxsize)


def packed_linear(layer: nn.Linear, x: Tensor, kept: SizeCache) -> Tensor:
    """``layer(x)``.

    Args:
        layer: A linear layer, or what a tool put into its place: that is called as it is.
        x: ``(..., in)``.
        kept: Of this layer alone, by :func:`packed_weights`.
    """
    if not _packs(layer, x, kept):
        return layer(x)
    weight = _packed(layer, kept)
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, layer.bias, 'none', [], '')


def linear_gelu(layer: nn.Linear, x: Tensor, kept: SizeCache) -> Tensor:
    """``gelu(layer(x))``, the exact GELU; see :func:`packed_linear`."""
    if _packs(layer, x, kept):
        weight = _packed(layer, kept)
        return torch.ops.mkldnn._linear_pointwise.default(x, weight, layer.bias, 'gelu', [], 'none')
    y = layer(x)
    return torch.ops.aten.gelu_(y) if _overwrites(layer, y) else F.gelu(y)


def linear_add(layer: nn.Linear, x: Tensor, residual: Tensor, kept: SizeCache) -> Tensor:
    """``residual + layer(x)``, of one shape; see :func:`packed_linear`."""
    if _packs(layer, x, kept) and residual.dtype == x.dtype:
        weight = _packed(layer, kept)
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, layer.bias, 'add')
    y = layer(x)
    if _overwrites(layer, y) and runs_eagerly(residual) and residual.dtype == y.dtype:
        return y.add_(residual)
    return residual + y


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is what it was built as, and nobody looks at its result."""
    return type(layer) is nn.Linear and not (layer._forward_hooks or layer._forward_pre_hooks)


def _overwrites(layer: nn.Module, y: Tensor) -> bool:
    """Whether a layer's result may be written over."""
    return _is_plain(layer) and runs_eagerly(y)


def _packs(layer: nn.Module, x: Tensor, kept: SizeCache) -> bool:
    """Whether oneDNN's step may be taken, and is worth its call."""
    return (
        kept.active
        and _is_plain(layer)
        and on_onednn(x, layer.weight)
        and x.numel() * layer.out_features >= LARGE_PRODUCT
    )


def _packed(layer: nn.Linear, kept: SizeCache) -> Tensor:
    weight = layer.weight
    return kept.get(
        'weight', weight, lambda: torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    )
