"""Networks as they are deployed: by a table, each trained module becomes its deployed one.

Only algebra and the order of products change. What runs a deployed network faster still is a
runtime's business: :mod:`effvit_mm.runtime`.
"""

from . import rules
from .folding import (
    ShiftedConv2d,
    fold_batch_norms,
    fold_conv_norm,
    fold_linear_norm,
    fold_norm_conv,
    fold_norm_linear,
    mean_linear,
)
from .table import RULES, deployed_as, switch_modules

__all__ = [
    'RULES',
    'ShiftedConv2d',
    'deployed_as',
    'fold_batch_norms',
    'fold_conv_norm',
    'fold_linear_norm',
    'fold_norm_conv',
    'fold_norm_linear',
    'mean_linear',
    'rules',
    'switch_modules',
]
