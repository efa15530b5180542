"""Attention mechanisms. This package knows torch alone: no registry, no framework."""

from .ladder import PixelAdaptiveFusion, ShiftedWindowAttention
from .softmax import Layout, SoftmaxAttention

__all__ = ['Layout', 'PixelAdaptiveFusion', 'ShiftedWindowAttention', 'SoftmaxAttention']
