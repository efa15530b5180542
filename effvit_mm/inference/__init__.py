"""Trained models on images, folders, arrays and videos, without any data set."""

from .classifier import Classification, Classifier
from .detector import DetInferencer

__all__ = ['Classification', 'Classifier', 'DetInferencer']
