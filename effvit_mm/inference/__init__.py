"""Trained models on images of all kinds, without any data set: one contract for three tasks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classifier import Classifier
    from .detector import Detector, DetInferencer
    from .inferencer import Inferencer
    from .reid import ReIDExtractor
    from .results import Classification, Detection, PersonFeature, PersonFeatures

# Imported when asked for: what a command's help shows stands beside them, and needs no mmdet.
_LATER = {
    'Classification': '.results',
    'Classifier': '.classifier',
    'DetInferencer': '.detector',
    'Detection': '.results',
    'Detector': '.detector',
    'Inferencer': '.inferencer',
    'PersonFeature': '.results',
    'PersonFeatures': '.results',
    'ReIDExtractor': '.reid',
}

__all__ = [
    'Classification',
    'Classifier',
    'DetInferencer',
    'Detection',
    'Detector',
    'Inferencer',
    'PersonFeature',
    'PersonFeatures',
    'ReIDExtractor',
]


def __getattr__(name: str) -> Any:
    """Import the module that has the name."""
    if name not in _LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_LATER[name], __name__), name)
