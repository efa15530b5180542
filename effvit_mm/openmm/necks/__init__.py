"""Necks: feature pyramids that mmdet lacks."""

from .crossvit_pyramid import CrossViTPyramid
from .csp_pan import CSPPAN
from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['CSPPAN', 'CrossViTPyramid', 'SimpleFeaturePyramid']
