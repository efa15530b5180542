"""Networks as they are deployed: norms folded, constants computed once, no training branches."""

from .convolution import ConvGELU, PointwiseConv2d, bottleneck, packed_conv, packed_patches
from .folding import (
    ShiftedConv2d,
    fold_batch_norms,
    fold_conv_norm,
    fold_linear_norm,
    fold_norm_conv,
    fold_norm_linear,
    mean_linear,
)
from .linear import PackedWeight, PackingModule, linear_add, linear_gelu, packed_linear
from .switch import Deployable, switch_modules

__all__ = [
    'ConvGELU',
    'Deployable',
    'PackedWeight',
    'PackingModule',
    'PointwiseConv2d',
    'ShiftedConv2d',
    'bottleneck',
    'fold_batch_norms',
    'fold_conv_norm',
    'fold_linear_norm',
    'fold_norm_conv',
    'fold_norm_linear',
    'linear_add',
    'linear_gelu',
    'mean_linear',
    'packed_conv',
    'packed_linear',
    'packed_patches',
    'switch_modules',
]
