"""Mixed precision on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from ...errors import ConfigError
from ..registry import OPTIM_WRAPPERS

LOW_PRECISION = {'bfloat16': torch.bfloat16, torch.bfloat16: torch.bfloat16, None: torch.bfloat16}


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Forward passes in bfloat16 autocast on the CPU; weights and optimizer stay float32.

    mmengine's ``AmpOptimWrapper`` refuses the CPU. bfloat16 has float32's range, so no loss scaling
    is needed and the checkpoints are a plain ``OptimWrapper``'s.

    Args:
        dtype: ``'bfloat16'`` or None; float16 has no fast path on CPUs and would need loss scaling.
        **kwargs: Of ``OptimWrapper``: ``optimizer``, ``accumulative_counts``, ``clip_grad``.
    """

    def __init__(self, dtype: str | torch.dtype | None = None, **kwargs) -> None:
        if dtype not in LOW_PRECISION:
            raise ConfigError(
                f"optim_wrapper.dtype={dtype!r}: on the CPU mixed precision is 'bfloat16' only"
            )
        super().__init__(**kwargs)
        self.cast_dtype = LOW_PRECISION[dtype]

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass, within what accumulation needs."""
        with super().optim_context(model), torch.autocast('cpu', dtype=self.cast_dtype):
            yield
