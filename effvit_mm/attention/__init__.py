"""Attention mechanisms. This package knows torch alone: no registry, no framework."""

from .cross import CrossAttention
from .ladder import PixelAdaptiveFusion, ShiftedWindowAttention
from .linear import LinearAttention
from .linear_angular import LinearAngularAttention
from .softmax import Layout, SoftmaxAttention

__all__ = [
    'CrossAttention',
    'Layout',
    'LinearAngularAttention',
    'LinearAttention',
    'PixelAdaptiveFusion',
    'ShiftedWindowAttention',
    'SoftmaxAttention',
]
