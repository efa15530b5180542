"""What eight bits cost and what they save, whoever made them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from .graph import ExportError, Run, noise
from .network import DeployedNetwork

Batch = Tensor | np.ndarray
Labelled = Iterable[tuple[Batch, Sequence[int] | None]]

REPEATS, WARM_UP = 21, 3  # timed passes of each file, and those before them


class Quantised(NamedTuple):
    """An int8 file against the float32 file that it was made of, in the same runtime.

    Attributes:
        calibrated, compared: Images that the ranges are of, and that the figures are of.
        deviation: Root mean square of the outputs' differences over that of the outputs.
        cosine: Mean cosine of an image's outputs, of the worst of several outputs.
        agreement: Share of the images with the same best class; None where there are no logits.
        accuracy: Top-1 of float32 and int8; None where the images have no labels.
        sizes: Of the files in bytes, the weights beside them too: float32 and int8.
        seconds: For one image: float32 and int8, medians of passes in turns.
    """

    calibrated: int
    compared: int
    deviation: float
    cosine: float
    agreement: float | None
    accuracy: tuple[float, ...] | None
    sizes: tuple[int, int]
    seconds: tuple[float, ...]


def check_normalised(network: DeployedNetwork) -> None:
    """Raise where a network takes pixels."""
    if network.preprocessing is not None:
        raise ConfigError('--preprocess: not in eight bits, whose ranges are of normalised images')


def measure_cost(
    exact: Path,
    rough: Path,
    session: Callable[[Path], Run],
    calibrated: int,
    comparison: Labelled,
    logits: bool,
) -> Quantised:
    """An int8 file against the float32 one.

    Args:
        exact, rough: The files, float32 and int8.
        session: Opens a file for running.
        calibrated: Images that the ranges are of.
        comparison: Batches of images to compare on, with their labels or None.
        logits: Whether the outputs are.

    Raises:
        ConfigError: There are no images.
        ExportError: The outputs in int8 are not finite.
    """
    runs = [session(path) for path in (exact, rough)]
    squares = np.zeros(2)  # of the differences, of the outputs
    cosines: list[float] = []
    same: list[bool] = []
    hits: list[np.ndarray] = []
    for images, labels in comparison:
        batch = torch.as_tensor(images)
        outputs = ([array.reshape(len(batch), -1) for array in run(batch)] for run in runs)
        pairs = list(zip(*outputs, strict=True))
        for a, b in pairs:
            squares += (np.square(a - b).sum(), np.square(a).sum())
        cosines.extend(np.min([_cosine(a, b) for a, b in pairs], axis=0))
        if logits:
            best = np.stack([array.argmax(1) for array in pairs[0]])
            same.extend(best[0] == best[1])
            if labels is not None:
                hits.extend((best == labels).T)
    if not cosines:
        raise ConfigError('comparison: there are no images')
    if not np.isfinite(squares).all():
        raise ExportError('the outputs in int8 are not finite; nothing was written')
    return Quantised(
        calibrated=calibrated,
        compared=len(cosines),
        deviation=float(np.sqrt(squares[0] / squares[1])),
        cosine=float(np.mean(cosines)),
        agreement=float(np.mean(same)) if same else None,
        accuracy=tuple(float(v) for v in np.mean(hits, axis=0)) if hits else None,
        sizes=(_bytes(exact), _bytes(rough)),
        seconds=_seconds(runs, batch.shape[2:]),
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def _bytes(path: Path) -> int:
    """Of a file, and of the weights of the same name beside it (OpenVINO's)."""
    files = (path, path.with_suffix('.bin'))
    return sum(file.stat().st_size for file in files if file.is_file())


def _seconds(runs: Sequence[Run], size: Sequence[int]) -> tuple[float, ...]:
    """Median time of one image of this height and width for each; they run in turns."""
    image = noise(1, size)
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(WARM_UP + REPEATS):
        for run, own in zip(runs, times, strict=True):
            start = perf_counter()
            run(image)
            own.append(perf_counter() - start)
    return tuple(median(own[WARM_UP:]) for own in times)


@contextmanager
def silent(logger: str | None) -> Iterator[None]:
    """Let a library's logger (None: the root) speak of errors alone meanwhile."""
    own = logging.getLogger(logger)
    level = own.level
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        own.setLevel(level)


class CalibrationImages:
    """Images one by one, as arrays ``(1, 3, H, W)``, as often as they are iterated over.

    Attributes:
        count: How many there were the last time.

    Raises:
        ConfigError: There are none; raised while iterating.
    """

    def __init__(self, batches: Labelled) -> None:
        self.batches, self.count = batches, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        self.count = 0
        for images, _ in self.batches:
            for image in np.asarray(images):
                self.count += 1
                yield image[None]
        if not self.count:
            raise ConfigError('calibration: there are no images')
