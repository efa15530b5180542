"""Images of people for galleries, and which kinds of these can be made here."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from effvit_mm.reid.features import ReIDFeatures

WIDTH, MODEL = 16, 'PSLT-0123456789ab'
NO_DATABASE = None in map(importlib.util.find_spec, ('pymilvus', 'milvus_lite'))
database = pytest.mark.skipif(
    NO_DATABASE,
    reason="pymilvus and milvus-lite are not installed: pip install 'effvit-mm[gallery]'",
)
ON_DISK = ['large', pytest.param('file.db', marks=database)]


def images(count: int, seed: int) -> ReIDFeatures:
    """Features whose distances no rounding changes, many of them equal: four of 16 are 1 or -1."""
    rng = np.random.default_rng(seed)
    features = np.zeros((count, WIDTH), np.float32)
    for row in features:
        row[rng.choice(WIDTH, 4, replace=False)] = rng.choice([-1, 1], 4)
    features[count // 2 :: 3] = features[0]
    pids, camids = rng.integers(0, 9, count), rng.integers(0, 4, count)
    return ReIDFeatures(features, pids, camids, [f'{seed}/{i}ä.jpg' for i in range(count)], MODEL)


def known(count: int, seed: int) -> dict[str, list]:
    """Columns for them: intervals, moments and times that are not known."""
    begin = [None if i % 10 == 3 else float(seed * 1000 + i) for i in range(count)]
    return {
        'begin': begin,
        'end': [b if b is None or i % 2 else b + 5 for i, b in enumerate(begin)],
        'source': [f'"{("häll", "yard")[i % 2]}".mp4' for i in range(count)],
        'track': [i % 5 for i in range(count)],
        'box': [[0.5, i] for i in range(count)],
    }
