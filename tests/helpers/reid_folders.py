"""Folders of small grey images, named and laid out as those of re-ID data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

MARKET = {'train': 'bounding_box_train', 'query': 'query', 'gallery': 'bounding_box_test'}
IMAGE = cv2.imencode('.jpg', np.full((16, 8, 3), 90, np.uint8))[1].tobytes()


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(IMAGE)


def market_name(pid: int, cam: int, shot: int) -> str:
    return f'{"-1" if pid < 0 else f"{pid:04d}"}_c{cam}s1_{shot:06d}_00.jpg'


def make_market(
    root: Path, train=(3, 7, 12), test=(2, 5), cameras=(1, 2), shots: int = 2, **folders: str
) -> Path:
    """A Market-style folder of grey images."""
    place = {**MARKET, **folders}
    for pid in train:
        put(root / place['train'], *(market_name(pid, c, s) for c in cameras for s in range(shots)))
    for pid in test:
        put(root / place['query'], *(market_name(pid, c, 0) for c in cameras))
        put(
            root / place['gallery'],
            *(market_name(pid, c, s) for c in cameras for s in range(1, shots)),
        )
    return root
