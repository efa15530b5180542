"""Efficient vision-transformer backbones for classification, detection and re-identification.

Importing registers the backbones and, where mmcv was not compiled, puts torchvision's operators in
the place of mmcv's (:mod:`effvit_mm.ops`). It does not import mmdet, mmpretrain or torchreid.
"""

from . import ops, registry
from .analysis import count_flops
from .convert import convert_state_dict, export_state_dict
from .models import create_model, list_models
from .version import __version__

__all__ = [
    'DetInferencer',
    'ReIDExtractor',
    '__version__',
    'convert_state_dict',
    'count_flops',
    'create_model',
    'export_state_dict',
    'list_models',
    'ops',
    'register_torchreid',
    'registry',
]


def __getattr__(name: str):
    """Import what needs more than the backbones when it is asked for."""
    if name == 'DetInferencer':
        from .inference import DetInferencer

        return DetInferencer
    if name == 'ReIDExtractor':
        from .inference.reid import ReIDExtractor

        return ReIDExtractor
    if name == 'register_torchreid':
        from .reid.torchreid import register_torchreid

        return register_torchreid
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
