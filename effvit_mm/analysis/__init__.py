"""What a network costs."""

from .attention import AttentionCost, attention_flops
from .flops import count_flops, count_parameters, flops_by_module, flops_by_operator
from .latency import Latency, describe_machine, interleaved_latency

__all__ = [
    'AttentionCost',
    'Latency',
    'attention_flops',
    'count_flops',
    'count_parameters',
    'describe_machine',
    'flops_by_module',
    'flops_by_operator',
    'interleaved_latency',
]
