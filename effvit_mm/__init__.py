"""Efficient vision-transformer backbones for classification, detection and re-identification."""

from . import ops
from .version import __version__

# Before anything asks for mmcv.ops: a stand-in for its compiled module, where there is none.
ops.install()

try:
    from . import registry
except ModuleNotFoundError as error:
    if error.name != 'mmengine':
        raise
    raise ModuleNotFoundError(
        "effvit_mm needs mmengine: `pip install 'effvit-mm[openmm]'` brings the OneDL distributions, "
        "or install OpenMMLab's own packages.",
        name='mmengine',
    ) from error

from .analysis import count_flops
from .convert import convert_state_dict
from .models import create_model, list_models

__all__ = [
    '__version__',
    'convert_state_dict',
    'count_flops',
    'create_model',
    'list_models',
    'registry',
]
