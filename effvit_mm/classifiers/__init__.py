"""Classification in mmpretrain's framework: heads that train, and distillation from a teacher."""

from .heads import DistilledClsHead, LeViTClsHead, LinearClsHead, TokenClsHead

__all__ = ['DistilledClsHead', 'LeViTClsHead', 'LinearClsHead', 'TokenClsHead']
