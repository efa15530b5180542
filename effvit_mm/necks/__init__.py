"""Necks: feature pyramids from the maps of networks that have no pyramid of their own."""

from .crossvit_pyramid import CrossViTPyramid
from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['CrossViTPyramid', 'SimpleFeaturePyramid']
