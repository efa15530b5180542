"""Trained models on images, folders, arrays and videos, without any data set."""

from .detector import DetInferencer

__all__ = ['DetInferencer']
