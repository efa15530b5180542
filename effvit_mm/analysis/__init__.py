"""What a network costs."""

from .flops import count_flops, count_parameters, flops_by_operator

__all__ = ['count_flops', 'count_parameters', 'flops_by_operator']
