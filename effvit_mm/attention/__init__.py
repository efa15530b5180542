"""Attention mechanisms. This package knows torch alone: no registry, no framework."""

from .cross import CrossAttention
from .e_attention import EAttention, Sampled, SampledSoftmaxAttention, rows
from .ladder import PixelAdaptiveFusion, ShiftedWindowAttention
from .linear import LinearAttention
from .linear_angular import LinearAngularAttention
from .softmax import Layout, SoftmaxAttention
from .token_sampling import TokenState, full_state
from .windows import tokens_to_windows, window_of, windows_to_tokens

__all__ = [
    'CrossAttention',
    'EAttention',
    'Layout',
    'LinearAngularAttention',
    'LinearAttention',
    'PixelAdaptiveFusion',
    'Sampled',
    'SampledSoftmaxAttention',
    'ShiftedWindowAttention',
    'SoftmaxAttention',
    'TokenState',
    'full_state',
    'rows',
    'tokens_to_windows',
    'window_of',
    'windows_to_tokens',
]
