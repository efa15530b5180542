"""Sizes in graphs that are recorded for any image size.

There they are symbols (``torch.SymInt``). A condition on one would hold the graph to the branch
that the example image takes, so code that chooses by size asks here, and takes the way that is
right for every size where the answer is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def is_recorded() -> bool:
    """Whether the steps are recorded as a graph, for other images than the one at hand.

    By ``torch.compile``, ``torch.export`` or ``torch.jit.trace``, which ``torch.onnx.export``
    without dynamo calls. What a graph does must not depend on what is seen in an image.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]


def is_open(*sizes: int) -> bool:
    """Whether one of the sizes is a symbol."""
    return any(isinstance(size, torch.SymInt) for size in sizes)


def surely_equal(left: Sequence[int], right: Sequence[int]) -> bool:
    """Whether all sizes are numbers, and the same ones."""
    return not is_open(*left, *right) and tuple(left) == tuple(right)


def surely_zero(*sizes: int) -> bool:
    """Whether all sizes are numbers, and zero."""
    return not is_open(*sizes) and not any(sizes)


def smaller(left: int, right: int) -> int:
    """The smaller of two sizes."""
    smallest: Any = torch.sym_min(left, right) if is_open(left, right) else min(left, right)
    return smallest


def round_up(size: int, step: int) -> int:
    """The next multiple of ``step``. Not ``-size % step``, which converters do not know."""
    return (size + step - 1) // step * step


def even_steps(first: int, last: int, count: int, device: torch.device) -> torch.Tensor:
    """``torch.linspace``, which takes no symbol for a count: ``(count,)`` float32."""
    if not is_open(count):
        return torch.linspace(first, last, count, device=device)
    step: Any = (last - first) / torch.sym_max(count - 1, 1)
    return first + torch.arange(count, dtype=torch.float32, device=device) * step
