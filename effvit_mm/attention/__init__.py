"""Attention mechanisms, and the one contract that they keep. This room knows torch alone."""

from .cross import CrossAttention
from .e_attention import EAttention, Sampled, SampledSoftmaxAttention
from .ladder import PixelAdaptiveFusion, ShiftedWindowAttention
from .linear import LinearAttention
from .linear_angular import LinearAngularAttention
from .mechanism import (
    NO_GRID,
    Layout,
    Mechanism,
    build_mechanism,
    has,
    register_mechanism,
)
from .softmax import SoftmaxAttention
from .token_sampling import TokenState

__all__ = [
    'NO_GRID',
    'CrossAttention',
    'EAttention',
    'Layout',
    'LinearAngularAttention',
    'LinearAttention',
    'Mechanism',
    'PixelAdaptiveFusion',
    'Sampled',
    'SampledSoftmaxAttention',
    'ShiftedWindowAttention',
    'SoftmaxAttention',
    'TokenState',
    'build_mechanism',
    'has',
    'register_mechanism',
]
