"""Tensors that depend on sizes (masks, grids, index tables), computed once a size."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

Kept = TypeVar('Kept', Tensor, tuple[Tensor, ...])


def cached_by_size(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep a function's results for its last 32 argument tuples.

    The arguments must be hashable and settle the result: sizes, device, dtype. Results are shared,
    so callers must not write to them. Under ``torch.compile`` and ``torch.export`` the function is
    traced instead: a cached tensor would become a stray constant of one graph.
    """

    @lru_cache(maxsize=32)
    def compute(*args: object) -> Tensor:
        # A tensor born in inference mode could never take part in training later.
        with torch.inference_mode(False), torch.no_grad():
            return function(*args)

    @wraps(function)
    def cached(*args: object) -> Tensor:
        return function(*args) if torch.compiler.is_compiling() else compute(*args)

    cached.cache_clear = compute.cache_clear
    return cached


class SizeCache:
    """Tensors that a module makes of its weights for a size, kept for the last sizes it met.

    For deployed modules, whose weights rest; where they do change (a state dict is loaded, the
    module moves to another device or type) all is forgotten. Not in the state dict; copies and
    pickles of the module begin with nothing.

    Args:
        active: Keep something. Until this is set, every call computes.
        budget: Bytes to keep at most; the size that was used longest ago goes first, and what
            exceeds the budget alone is not kept.
    """

    def __init__(self, active: bool = False, budget: int = 8 << 20) -> None:
        self.active, self.budget = active, budget
        self.entries: dict[Any, Kept] = {}  # the last used is the last
        self.stamp: tuple | None = None
        self.source: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, 'entries': {}, 'stamp': None, 'source': None}

    def get(self, key: Any, source: Tensor, compute: Callable[[], Kept]) -> Kept:
        """``compute()``, or its result from before for the same ``key`` and ``source``.

        The key holds all but the weights ``source`` that settles the result: sizes, dtype. Results
        are shared: callers must not write to them. Graphs that are traced compute for themselves.
        """
        if not self.active or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return compute()
        version = 0 if source.is_inference() else source._version
        stamp = (source.data_ptr(), version, source.dtype, source.device)
        if stamp != self.stamp:
            self.entries.clear()
            self.stamp = stamp
            self.source = source.detach()  # no other weights take its memory, and so its stamp
        found = self.entries.pop(key, None)
        if found is not None:
            self.entries[key] = found
            return found
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(source.device.type, enabled=False),
        ):
            found = compute()
        self.entries[key] = found
        size = sum(map(_bytes, self.entries.values()))
        while size > self.budget:
            size -= _bytes(self.entries.pop(next(iter(self.entries))))
        return found


def _bytes(kept: Kept) -> int:
    return kept.nbytes if isinstance(kept, Tensor) else sum(t.nbytes for t in kept)
