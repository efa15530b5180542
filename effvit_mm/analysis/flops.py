"""Multiply-adds and parameters of a network.

PyTorch's counter does the work; it knows convolutions and matrix products but skips the fused
attention kernel of the CPU, which is added here. Element-wise steps, norms and softmax are not
counted, as in the papers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# torch.nn.attention's kernel on the CPU; absent from builds without it.
_CPU_ATTENTION = getattr(torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu', None)


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int]) -> int:
    """Twice the multiply-adds of ``softmax(Q K^T) V``; shapes ``(..., N or M, width)``."""
    *batch, queries, width = query
    keys, value_width = key[-2], value[-1]
    return 2 * prod(batch) * queries * keys * (width + value_width)


def _formula(query, key, value, *_args, out_shape=None, **_kwargs) -> int:
    return _attention_flops(query, key, value)


def flops_by_operator(model: nn.Module, input_shape: Sequence[int]) -> dict[str, int]:
    """Multiply-adds of one forward pass in evaluation mode, by operator.

    Args:
        model: Called with one tensor.
        input_shape: ``(C, H, W)``, a batch of one is made of it; or ``(B, C, H, W)``.

    Returns:
        ``{'convolution': ..., 'mm': ..., ...}``, largest first.
    """
    shape = tuple(input_shape) if len(input_shape) == 4 else (1, *input_shape)
    if len(shape) != 4 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(
            f'input_shape={input_shape!r}: (C, H, W) or (B, C, H, W) of positive ints is needed'
        )
    like = next(model.parameters(), torch.empty(0))
    x = torch.zeros(shape, device=like.device, dtype=like.dtype)
    extra = {_CPU_ATTENTION: _formula} if _CPU_ATTENTION is not None else {}
    counter = FlopCounterMode(display=False, custom_mapping=extra)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), counter:
            model(x)
    finally:
        for module, mode in modes.items():
            module.training = mode
    total: Counter[str] = Counter()
    for operator, flops in counter.get_flop_counts()['Global'].items():
        total[str(operator).split('.')[-1]] += flops // 2
    return dict(total.most_common())


def count_flops(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-adds of one forward pass; see :func:`flops_by_operator`."""
    return sum(flops_by_operator(model, input_shape).values())


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trained or frozen."""
    return sum(p.numel() for p in model.parameters())
