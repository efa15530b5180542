"""Pictures of results."""

from .tradeoff import Point, draw_curves, draw_pareto, draw_tradeoff, pareto_front

__all__ = ['Point', 'draw_curves', 'draw_pareto', 'draw_tradeoff', 'pareto_front']
