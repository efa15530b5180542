"""When a step may take a shortcut that only plain, eager inference allows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

# Rows from which on oneDNN's linear layer is faster than PyTorch's own, which fills its result with
# the bias before it adds the product to that; for fewer rows oneDNN's calls cost more.
MANY_ROWS = 2048


def runs_eagerly(*tensors: Tensor) -> bool:
    """Whether nothing but the results of steps on ``tensors`` is wanted.

    That is: no gradient of them, in either direction; no graph that is traced, compiled or
    exported; no mode that looks at the operators (a multiply-add counter, fake tensors, vmap). Then
    a step may write over its own intermediate results, run in slices, or call a fused kernel that
    has no derivative.
    """
    return runs_plainly() and not wants_gradient(*tensors)


def wants_gradient(*tensors: Tensor) -> bool:
    """Whether what is made of ``tensors`` can be asked for their gradients."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def runs_plainly() -> bool:
    """As :func:`runs_eagerly`, but that gradients may be wanted: steps may be others, as long as
    their derivatives are right.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def plain_float32(x: Tensor, weight: Tensor) -> bool:
    """Whether plain float32 tensors meet in eager inference on a CPU."""
    return (
        runs_eagerly(x, weight)
        # No subclasses: quantised weights, tensors of several machines, fake ones.
        and type(x) is Tensor
        and type(weight) is nn.Parameter
        and x.device.type == weight.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled('cpu')
    )


def on_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether they do, and oneDNN is there."""
    return (
        plain_float32(x, weight)
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    )


def gelu(x: Tensor) -> Tensor:
    """The exact GELU of a tensor that nobody else needs: written over it where that is allowed."""
    return torch.ops.aten.gelu_(x) if runs_eagerly(x) else nn.functional.gelu(x)


def is_plain_linear(layer: nn.Module) -> bool:
    """Whether a layer is what it was built as, and nobody looks at its result."""
    return type(layer) is nn.Linear and not (layer._forward_hooks or layer._forward_pre_hooks)


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)`` of a linear layer, by :func:`product`.

    Args:
        layer: A linear layer, or what a tool put into its place: that is called as it is.
        x: ``(..., in)``.
    """
    # Asked first: in a graph for any size, a condition on the size would hold it to some.
    if runs_plainly() and x.numel() >= MANY_ROWS * x.shape[-1] and is_plain_linear(layer):
        return product(x, layer.weight, layer.bias)
    return layer(x)


def product(x: Tensor, weight: nn.Parameter, bias: Tensor | None) -> Tensor:
    """``x W^T + bias``, in eager inference of many rows by oneDNN's step.

    Args:
        x: ``(..., in)``.
        weight: W, ``(out, in)``, or that of a 1x1 convolution.
        bias: ``(out,)``.

    Returns:
        ``(..., out)``.
    """
    flat = weight.flatten(1)
    if x.numel() >= MANY_ROWS * x.shape[-1] and on_onednn(x, weight):
        return torch.ops.mkldnn._linear_pointwise.default(x, flat, bias, 'none', [], '')
    return nn.functional.linear(x, flat, bias)


def add(x: Tensor, residual: Tensor) -> Tensor:
    """``x + residual``, of one shape, where nobody else needs ``x``: written over it if allowed."""
    if x.dtype == residual.dtype and runs_eagerly(x, residual):
        return x.add_(residual)
    return x + residual
