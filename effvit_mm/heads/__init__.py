"""Heads: what turns a backbone's output into a task's."""

from .classification import (
    DistilledHeads,
    Head,
    LeViTHead,
    LinearHead,
    NormLinear,
    TokenHeads,
    pool,
)

__all__ = [
    'DistilledHeads',
    'Head',
    'LeViTHead',
    'LinearHead',
    'NormLinear',
    'TokenHeads',
    'pool',
]
