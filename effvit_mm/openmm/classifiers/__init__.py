"""Classification in mmpretrain's framework: heads that train, and distillation from a teacher."""

from .distillation import DistilledClassifier, distillation_loss
from .heads import DistilledClsHead, LeViTClsHead, LinearClsHead, TokenClsHead

__all__ = [
    'DistilledClassifier',
    'DistilledClsHead',
    'LeViTClsHead',
    'LinearClsHead',
    'TokenClsHead',
    'distillation_loss',
]
