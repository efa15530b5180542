"""Tensors that depend on sizes alone (masks, grids, index tables), computed once a size."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor

from .sizes import is_recorded


def cached_by_size(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep a function's results for its last 32 argument tuples.

    The arguments must be hashable and settle the result: sizes, device, dtype. Results are shared,
    so callers must not write to them. In a recorded graph the function is
    traced instead: a cached tensor would become a stray constant of one graph.
    """

    @lru_cache(maxsize=32)
    def compute(*args: object) -> Tensor:
        # A tensor born in inference mode could never take part in training later.
        with torch.inference_mode(False), torch.no_grad():
            return function(*args)

    @wraps(function)
    def cached(*args: object) -> Tensor:
        return function(*args) if is_recorded() else compute(*args)

    result: Any = cached
    result.cache_clear = compute.cache_clear
    return result
