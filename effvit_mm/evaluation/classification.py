"""A classifier's figures by class: precision, recall, F1, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError


@dataclass(frozen=True)
class ClassFigures:
    """What follows from how often each class was predicted for each; C classes.

    A quotient without anything below the line is 0, as scikit-learn's with ``zero_division=0``.

    Attributes:
        confusion: (C, C) int, rows are the true classes, columns the predicted ones.
    """

    confusion: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Images of each class, (C,)."""
        return self.confusion.sum(1)

    @property
    def precision(self) -> np.ndarray:
        """Right ones among those predicted as the class, (C,), 0 to 1."""
        return _quotient(self.confusion.diagonal(), self.confusion.sum(0))

    @property
    def recall(self) -> np.ndarray:
        """Right ones among those of the class, (C,), 0 to 1."""
        return _quotient(self.confusion.diagonal(), self.counts)

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall, (C,), 0 to 1."""
        return _quotient(2 * self.confusion.diagonal(), self.confusion.sum(0) + self.counts)

    @property
    def shares(self) -> np.ndarray:
        """The confusion by true class, (C, C), 0 to 1; a class without images has zeros."""
        return _quotient(self.confusion, self.counts[:, None])

    def worst(self, number: int) -> np.ndarray:
        """The labels of lowest F1, the worst first; classes without images come last."""
        order = np.lexsort((-self.counts, self.f1, self.counts == 0))
        return order[:number]


def count_predictions(true: Sequence[int], predicted: Sequence[int], classes: int) -> ClassFigures:
    """Figures of N images.

    Args:
        true: (N,) labels from 0.
        predicted: (N,) labels from 0.
        classes: Their number, C.

    Raises:
        DataError: A label is not below ``classes``, or the lengths differ.
    """
    pairs = [np.asarray(labels, np.int64).reshape(-1) for labels in (true, predicted)]
    if len(pairs[0]) != len(pairs[1]):
        raise DataError(f'{len(pairs[0])} true labels, but {len(pairs[1])} predicted ones')
    for name, labels in zip(('true', 'predicted'), pairs, strict=True):
        wrong = labels[(labels < 0) | (labels >= classes)]
        if len(wrong):
            raise DataError(f'{name} label {wrong[0]}: 0 to {classes - 1} are allowed')
    cells = np.bincount(pairs[0] * classes + pairs[1], minlength=classes**2)
    return ClassFigures(cells.reshape(classes, classes))


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.maximum(below, 1), 0.0)
