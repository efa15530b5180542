"""Pictures of results."""

from .tradeoff import Point, draw_tradeoff

__all__ = ['Point', 'draw_tradeoff']
