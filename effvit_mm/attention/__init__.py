"""Attention mechanisms. This package knows torch alone: no registry, no framework."""

from .ladder import PixelAdaptiveFusion, ShiftedWindowAttention

__all__ = ['PixelAdaptiveFusion', 'ShiftedWindowAttention']
