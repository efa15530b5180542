"""Backbones, and the contract they share."""

from .base import Backbone, FeatureMaps
from .crossvit import CrossViT
from .deployable import Deployable
from .levit import LeViT
from .mvitv2 import MViTv2
from .pslt import PSLT
from .vision_transformer import VisionTransformer

__all__ = [
    'PSLT',
    'Backbone',
    'CrossViT',
    'Deployable',
    'FeatureMaps',
    'LeViT',
    'MViTv2',
    'VisionTransformer',
]
