"""Trained models on images of all kinds, without any data set: one contract for three tasks."""

from .classifier import Classifier
from .detector import Detector, DetInferencer
from .inferencer import Inferencer
from .reid import ReIDExtractor
from .results import Classification, Detection, PersonFeature, PersonFeatures

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
