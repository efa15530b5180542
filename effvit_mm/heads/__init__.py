"""Heads: what turns a backbone's output into a task's."""

from .classification import LeViTHead, LinearHead, TokenHeads, pool

__all__ = ['LeViTHead', 'LinearHead', 'TokenHeads', 'pool']
