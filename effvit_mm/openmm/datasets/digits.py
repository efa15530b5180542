"""The sample digits: scikit-learn's 1,797 real handwritten digits as PNG files.

Small enough to train on a laptop's CPU within minutes, and real files in class folders: what
works with them works with one's own images.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ...errors import DataError
from ...sample_data.digit_images import (
    CLASSES,
    GREY_LEVELS,
    SPLITS,
    load_digit_images,
    split_indices,
)
from ...sample_data.folders import make_once
from ..registry import DATASETS
from .image_folder import ImageFolder


def build_digits(folder: Path) -> None:
    """Write ``train/<digit>/*.png`` and ``test/<digit>/*.png``, 8x8 grey, into ``folder``."""
    images, labels = load_digit_images()
    images = np.round(images * (255 / GREY_LEVELS)).astype(np.uint8)
    for split in SPLITS:
        for digit in CLASSES:
            place = folder / split / digit
            place.mkdir(parents=True)
            for index in split_indices(labels, int(digit), split):
                file = place / f'{index:04d}.png'
                if not cv2.imwrite(str(file), images[index]):
                    raise DataError(f'{file} cannot be written')


@DATASETS.register_module()
class Digits(ImageFolder):
    """Handwritten digits, 8x8 grey, 10 classes: 1,442 for training and 355 for testing.

    The files are made under ``data_root`` on first use. Upscaling is left to the pipeline.

    Args:
        data_root: Where the files are, or shall be.
        split: ``'train'`` or ``'test'``.
        **kwargs: See :class:`ImageFolder`.
    """

    METAINFO = {'classes': CLASSES}

    def __init__(self, data_root: str = 'data/digits', split: str = 'train', **kwargs) -> None:
        if split not in ('train', 'test'):
            raise DataError(f"Digits has the splits 'train' and 'test', not {split!r}")
        super().__init__(data_root=data_root, split=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples; makes the files if they are not there yet."""
        make_once(self.data_root, build_digits)
        return super().load_data_list()
