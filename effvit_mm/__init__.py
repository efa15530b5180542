"""Efficient vision-transformer backbones for classification, detection and re-identification.

Importing registers the backbones and, where mmcv was not compiled, puts torchvision's operators in
the place of mmcv's (:mod:`effvit_mm.ops`). It does not import mmdet, mmpretrain or torchreid.
"""

import sys
from importlib import import_module
from typing import Any

from .errors import MissingPackageError, tell_missing_packages

try:
    from . import deploy, ops
except ModuleNotFoundError as error:
    if error.name not in ('torch', 'torchvision'):
        raise
    tell_missing_packages()
    raise MissingPackageError(
        f'effvit_mm needs {error.name}, which {sys.executable} does not have: is the environment '
        'active that it was installed into (. .venv/bin/activate)?',
        name=error.name,
    ) from error
from .attention import register_mechanism
from .flops import count_flops
from .models import convert_state_dict, create_model, export_state_dict, list_models
from .version import __version__

try:
    from . import registry
    from .openmm import backbones as _registered  # noqa: F401
except ModuleNotFoundError as error:
    # Networks, deployment and re-ID ranking need torch alone.
    if error.name != 'mmengine':
        raise

# What needs more than the backbones is imported when it is asked for.
_LATER = {
    'Classifier': '.inference',
    'DetInferencer': '.inference',
    'Detector': '.inference',
    'Gallery': '.reid.search',
    'PersonSearch': '.inference.person_search',
    'ReIDExtractor': '.inference',
    'VideoTracker': '.inference.tracking',
    'Where': '.reid.where',
    'compile': '.runtime',
    'create_gallery': '.reid.galleries',
    'open_compiled': '.runtime',
    'open_gallery': '.reid.galleries',
    'register_timm': '.timm',
    'register_torchreid': '.torchreid',
}

__all__ = [
    'Classifier',
    'DetInferencer',
    'Detector',
    'Gallery',
    'PersonSearch',
    'ReIDExtractor',
    'VideoTracker',
    'Where',
    '__version__',
    'compile',
    'convert_state_dict',
    'count_flops',
    'create_gallery',
    'create_model',
    'deploy',
    'export_state_dict',
    'list_models',
    'open_compiled',
    'open_gallery',
    'ops',
    'register_mechanism',
    'register_timm',
    'register_torchreid',
    'registry',
]


def __getattr__(name: str) -> Any:
    """Import the module that has the name."""
    if name not in _LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        return getattr(import_module(_LATER[name], __name__), name)
    except ModuleNotFoundError as error:
        if error.name == 'timm':
            raise MissingPackageError(
                f'effvit_mm.{name} needs timm: `pip install timm` brings it', name='timm'
            ) from error
        if error.name not in ('mmengine', 'mmcv', 'mmdet', 'mmpretrain'):
            raise
        raise MissingPackageError(
            f"effvit_mm.{name} needs {error.name}: `pip install 'effvit-mm[openmm]'` brings the "
            "OneDL distributions; OpenMMLab's own packages work too",
            name=error.name,
        ) from error
