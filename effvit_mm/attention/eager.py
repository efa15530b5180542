"""When a step may take a shortcut that only plain, eager inference allows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


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
        and type(weight) is torch.nn.Parameter
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
    return torch.ops.aten.gelu_(x) if runs_eagerly(x) else torch.nn.functional.gelu(x)
