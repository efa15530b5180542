"""The small sample set of videos, and a stand-in for a trained re-ID model."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.sample_data.folders import make_once
from effvit_mm.sample_data.walker_scenes import VERSION, Amount, build_walker_scenes

AMOUNT = Amount(train=4, test=4, search=4, train_every=48, test_every=48)


def make_films(folder: Path) -> Path:
    """``walker_scenes`` with four people in each part; gives the folder of the videos."""
    return make_once(folder, lambda place: build_walker_scenes(place, AMOUNT), VERSION) / 'search'


class Colors:
    """Describes people by the colours of six parts: an extractor that needs no training."""

    identity, preparation = 'colors', 'as they are'

    def __init__(self) -> None:
        self.sizes: list[int] = []  # of the batches

    def __call__(self, crops, batch_size=32, progress=False):
        if isinstance(crops, str):
            crops = [crops]
        arrays = [crop if isinstance(crop, np.ndarray) else cv2.imread(crop) for crop in crops]
        self.sizes.append(len(arrays))
        parts = [cv2.resize(a, (1, 6), interpolation=cv2.INTER_AREA).ravel() for a in arrays]
        features = np.array(parts, np.float32) - 127
        unknown = np.full(len(arrays), -1)
        return ReIDFeatures(
            features, unknown, unknown, (), self.identity, 'features', self.preparation
        )
