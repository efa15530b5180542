"""scikit-learn's 1,797 handwritten digits and their division, which all sample data share."""

from __future__ import annotations

import numpy as np

CLASSES = tuple('0123456789')
SPLITS = ('train', 'test')
GREY_LEVELS = 16
# Every fifth image of a class is for testing. The images come in runs of the same writer, so both
# parts hold every writer: this measures learning, not the step to unknown writers.
TEST_EVERY = 5


def load_digit_images() -> tuple[np.ndarray, np.ndarray]:
    """``(1797, 8, 8)`` images of values 0 to ``GREY_LEVELS``, and their digits, as integers."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8).astype(np.int64), labels.astype(np.int64)


def split_indices(labels: np.ndarray, digit: int, split: str) -> np.ndarray:
    """Where in ``labels`` the images of one digit are that belong to a split."""
    of_digit = np.flatnonzero(labels == digit)
    for_testing = np.arange(len(of_digit)) % TEST_EVERY == TEST_EVERY - 1
    return of_digit[for_testing if split == 'test' else ~for_testing]
