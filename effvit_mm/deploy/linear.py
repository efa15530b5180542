"""Linear layers and what follows them, in few and fast steps: for eager inference on the CPU.

The product is MKL's, by weights that were brought into its own order beforehand; they lie beside
the layer's, so that its state dict is what it was, and take as much memory again. GELU and sum are
written over the product. (oneDNN has all in one step; in a network that takes longer, for its calls
are dear and its products no faster.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.eager import add, gelu, is_plain_linear, plain_float32

# What is worth to be packed: a weight of so many numbers (256 x 768), in a product of so many
# multiply-adds, by no more rows than this. Others save next to nothing, and holding weights twice,
# scattered between large maps, costs memory.
LARGE_PRODUCT, LARGE_WEIGHT, MANY_ROWS = 1 << 22, 3 << 16, 1024


class PackedWeight:
    """A layer's weight in the order that MKL takes, which depends on the number of rows.

    It is made when a number of rows comes a second time in a row, and gives way to the next: where
    sizes change all the time, nothing is packed. Changed weights are packed anew. Copies and
    pickles begin with nothing.
    """

    def __init__(self) -> None:
        self.active = False
        self.forget()

    def forget(self) -> None:
        """Give the memory back."""
        self.kept: tuple[tuple, Tensor | None] = ((), None)

    def __getstate__(self) -> dict:
        return {'active': self.active, 'kept': ((), None)}

    def get(self, source: Tensor, rows: int) -> Tensor | None:
        """The packed weight for products with so many rows; None where the plain one is to do.

        Args:
            source: The parameter: ``(out, ...)``.
            rows: Of all dimensions but the last, together.
        """
        version = 0 if source.is_inference() else source._version
        stamp = (source.data_ptr(), version, rows)
        known, packed = self.kept
        if known != stamp:
            packed = None
        elif packed is None:
            with torch.inference_mode(False), torch.no_grad():
                weight = source.detach().flatten(1)
                packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)
        self.kept = stamp, packed
        return packed


class PackingModule(nn.Module):
    """A module that calls some of its layers by the functions below.

    Args:
        count: Layers. ``packed`` has as many packed weights, which are active once deployed.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.packed = tuple(PackedWeight() for _ in range(count))

    def switch_to_deploy(self) -> PackingModule:
        """From now on keep the weights in MKL's order, too."""
        for packed in self.packed:
            packed.active = True
        return self

    def _apply(self, *args, **kwargs) -> PackingModule:
        for packed in self.packed:  # the weights may move to where others were
            packed.forget()
        return super()._apply(*args, **kwargs)


def packed_product(x: Tensor, source: Tensor, bias: Tensor | None, packed: PackedWeight) -> Tensor:
    """``x W^T + bias``: ``(..., in) -> (..., out)``.

    Args:
        x: Of which :func:`may_pack` holds.
        source: The parameter W, ``(out, ...)``.
        packed: Of this parameter alone.
    """
    rows = x.numel() // max(x.shape[-1], 1)
    weight = None
    large = source.numel() >= LARGE_WEIGHT and rows * source.numel() >= LARGE_PRODUCT
    if large and rows <= MANY_ROWS:
        weight = packed.get(source, rows)
    if weight is None:
        return F.linear(x, source.flatten(1), bias)
    return torch.ops.mkl._mkl_linear.default(x, weight, source.flatten(1), bias, rows)


def packed_linear(layer: nn.Linear, x: Tensor, packed: PackedWeight) -> Tensor:
    """``layer(x)``.

    Args:
        layer: A linear layer, or what a tool put into its place: that is called as it is.
        x: ``(..., in)``.
        packed: Of this layer alone. Until it is active, the layer is called as it is.
    """
    if is_plain_linear(layer) and may_pack(x, layer.weight, packed):
        return packed_product(x, layer.weight, layer.bias, packed)
    return layer(x)


def linear_gelu(layer: nn.Linear, x: Tensor, packed: PackedWeight) -> Tensor:
    """``gelu(layer(x))``, the exact GELU; see :func:`packed_linear`."""
    y = packed_linear(layer, x, packed)
    return gelu(y) if is_plain_linear(layer) else F.gelu(y)


def linear_add(layer: nn.Linear, x: Tensor, residual: Tensor, packed: PackedWeight) -> Tensor:
    """``residual + layer(x)``, of one shape; see :func:`packed_linear`."""
    y = packed_linear(layer, x, packed)
    return add(y, residual) if is_plain_linear(layer) else residual + y


def may_pack(x: Tensor, weight: Tensor, packed: PackedWeight) -> bool:
    """Whether :func:`packed_product` stands for the plain step."""
    return packed.active and plain_float32(x, weight) and torch.backends.mkl.is_available()
