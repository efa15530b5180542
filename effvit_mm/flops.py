"""Multiply-adds and parameters of a network.

PyTorch's counter does the work; it knows convolutions and matrix products but skips the fused
attention kernel of the CPU, which is added here. Element-wise steps, norms and softmax are not
counted, as in the papers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# torch.nn.attention's kernel on the CPU; absent from builds without it.
_CPU_ATTENTION = getattr(torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu', None)


def _attention_flops(
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *_args: object,
    **_kwargs: object,
) -> int:
    """Twice the multiply-adds of ``softmax(Q K^T) V``; shapes ``(..., N or M, width)``."""
    *batch, queries, width = query
    keys, value_width = key[-2], value[-1]
    return 2 * prod(batch) * queries * keys * (width + value_width)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each module is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def flops_by_module(model: nn.Module, x: Tensor) -> dict[str, Counter[str]]:
    """Multiply-adds of one forward pass in evaluation mode, by module and operator.

    Args:
        model: Called with ``x``. On the meta device nothing is computed, which suffices for all
            networks but those that sample tokens: what these cost depends on the image.
        x: The batch.

    Returns:
        ``{'stages.0.0.attn': {'addmm': ..., ...}, ...}``: a module's count has its children's in
        it, and the whole model's name is ``''``. Modules that multiply nothing are left out.
    """
    extra = {_CPU_ATTENTION: _attention_flops} if _CPU_ATTENTION is not None else {}
    counter = FlopCounterMode(display=False, custom_mapping=extra)
    with evaluation_mode(model), counter:
        model(x)
    result: dict[str, Counter[str]] = {'': Counter()}
    for path, counts in counter.get_flop_counts().items():
        name = '' if path == 'Global' else path.partition('.')[2]  # the class's name stands first
        if path == 'Global' or name:
            result[name] = Counter()
            for operator, flops in counts.items():
                result[name][str(operator).split('.')[-1]] += flops // 2
    return result


def flops_of(name: str, counts: Mapping[str, Counter[str]]) -> int:
    """Multiply-adds of a module.

    Args:
        name: Its name in the model.
        counts: What :func:`flops_by_module` gave. Of a module whose ``forward`` was called
            directly, as mmdet does with heads, it has the parts alone: they are added up.
    """
    if name in counts:
        return counts[name].total()
    parts = [part for part in counts if part.startswith(f'{name}.')]
    tops = [p for p in parts if not any(p.startswith(f'{other}.') for other in parts)]
    return sum(counts[part].total() for part in tops)


def flops_by_operator(model: nn.Module, input_shape: Sequence[int]) -> dict[str, int]:
    """Multiply-adds of one forward pass in evaluation mode, by operator.

    Args:
        model: Called with one tensor.
        input_shape: ``(C, H, W)``, a batch of one is made of it; or ``(B, C, H, W)``.

    Returns:
        ``{'convolution': ..., 'mm': ..., ...}``, largest first.
    """
    return dict(flops_by_module(model, zeros(model, input_shape))[''].most_common())


def zeros(model: nn.Module, input_shape: Sequence[int]) -> Tensor:
    """An empty batch of this shape, on the model's device.

    Raises:
        TypeError: The model is none, as its name.
        ValueError: The shape is neither ``(C, H, W)`` nor ``(B, C, H, W)`` of positive ints.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f'model={model!r}: a module is needed, as create_model(NAME) returns')
    sides = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
    shape = sides if len(sides) == 4 else (1, *sides)
    if len(shape) != 4 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(
            f'input_shape={input_shape!r}: (C, H, W) or (B, C, H, W) of positive ints is needed'
        )
    like = next(model.parameters(), torch.empty(0))
    return torch.zeros(shape, device=like.device, dtype=like.dtype)


def count_flops(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-adds of one forward pass in evaluation mode, fused attention counted.

    Args:
        model: Called with one tensor.
        input_shape: ``(C, H, W)``, a batch of one is made of it; or ``(B, C, H, W)``.
    """
    return sum(flops_by_operator(model, input_shape).values())


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trained or frozen."""
    return sum(p.numel() for p in model.parameters())
