"""What a network costs."""

from effvit_mm.flops import (
    count_flops,
    count_parameters,
    flops_by_module,
    flops_by_operator,
    flops_of,
)

from .attention import AttentionCost, attention_flops
from .latency import Latency, Timing, describe_machine, interleaved_latency, interleaved_timings

__all__ = [
    'AttentionCost',
    'Latency',
    'Timing',
    'attention_flops',
    'count_flops',
    'count_parameters',
    'describe_machine',
    'flops_by_module',
    'flops_by_operator',
    'flops_of',
    'interleaved_latency',
    'interleaved_timings',
]
