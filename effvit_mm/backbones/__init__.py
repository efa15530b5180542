"""Backbones, and the contract they share."""

from .base import Backbone
from .pslt import PSLT

__all__ = ['PSLT', 'Backbone']
