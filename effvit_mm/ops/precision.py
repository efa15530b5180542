"""Number formats of the operators."""

from __future__ import annotations

import torch
from torch import Tensor


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """The format to compute in: float64 if a tensor has it, else float32.

    torchvision's CPU operators know neither bfloat16 nor, some of them, float16, and sums of many
    small terms lose too much there; results are cast back by the caller.
    """
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if wide else torch.float32


def round_to(value: float, dtype: torch.dtype) -> float:
    """``value`` rounded to ``dtype``: compiled operators compare with float32 thresholds."""
    return torch.tensor(value, dtype=dtype).item()
