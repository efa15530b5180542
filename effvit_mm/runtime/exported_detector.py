"""A whole detector from its file alone: photographs to objects, without mmdet and the detector."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import ConfigError
from .detections import paste_masks
from .graph import Size
from .layout import PIXELS
from .pixels import resize
from .table import RUNTIMES

METADATA_KEY = 'detector'
NO_OBJECT = -1


class Placing(NamedTuple):
    """How a photograph becomes an image of the size that a detector's graph is for.

    Attributes:
        scale: Of the longer and of the shorter side, in pixels: it is made as large as these and
            the image allow, at the top and at the left, and the rest is filled. None where its
            sides are stretched.
        interpolation, backend: As of :class:`effvit_mm.runtime.pixels.Resize`.
        fill: Blue, green and red of the rest, 0 to 255.
        fill_counts: To the network the rest is a part of the image: objects may reach into it.
    """

    scale: tuple[int, int] | None
    interpolation: str
    backend: str
    fill: tuple[float, float, float]
    fill_counts: bool

    def __call__(self, photograph: np.ndarray, size: Size) -> tuple[np.ndarray, Size]:
        """``(h, w, 3)`` uint8 to ``(H, W, 3)`` float32, and the height and width of what it shows.

        Raises:
            ConfigError: A photograph so narrow that nothing of it would be left.
        """
        sides = np.array(photograph.shape[:2])
        new = size
        if self.scale is not None:
            own = np.array(self.scale) / (sides.max(), sides.min())
            factor = min(*own, *(np.array(size) / sides))
            height, width = np.minimum(sides * factor + 0.5, size)
            new = int(height), int(width)
        if 0 in new:
            raise ConfigError(
                f'photograph of {sides[0]} x {sides[1]} pixels: within {size[0]} x {size[1]} it '
                'has no width or no height left: cut it into pieces'
            )
        image = np.empty((*size, 3), np.float32)
        image[:] = self.fill
        image[: new[0], : new[1]] = resize(
            photograph, (new[1], new[0]), self.interpolation, self.backend
        )
        return image, new


class AboutDetector(NamedTuple):
    """What the file of a whole detector says for its use.

    Attributes:
        classes: Names of the classes.
        placing: Of photographs; None where the test pipeline does what is not known here.
    """

    classes: tuple[str, ...]
    placing: Placing | None

    def to_json(self) -> str:
        placing = None if self.placing is None else self.placing._asdict()
        return json.dumps({'classes': self.classes, 'placing': placing})

    @classmethod
    def from_json(cls, text: str) -> AboutDetector:
        """Undo :meth:`to_json`.

        Raises:
            ConfigError: It is none, or of a later version.
        """
        try:
            entries = json.loads(text)
            placing = entries['placing']
            return cls(tuple(entries['classes']), None if placing is None else Placing(**placing))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f'{METADATA_KEY}: {text!r} is not known here: {error!r}') from error


class Objects(NamedTuple):
    """What was found in one photograph.

    Attributes:
        size: Height and width of the photograph.
        boxes: (N, 4) float32: left, top, right, bottom in its pixels.
        scores: (N,) float32, best first.
        labels: (N,) int64.
        masks: (N, height, width) bool; None of a detector that finds none.
        left_out: Best score below the threshold where no object reaches it; None elsewhere.
    """

    size: Size
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    left_out: float | None = None


class Placed(NamedTuple):
    """A photograph as the graph takes it.

    Attributes:
        image: Of one image, without the batch's axis.
        shown: Height and width of what the photograph covers of it.
        size: Its own height and width.
    """

    image: torch.Tensor
    shown: Size
    size: Size


class ExportedDetector:
    """Objects in photographs, by what ``export.py --part detector`` wrote.

    Args:
        path: ``.onnx``, or ``.xml`` of OpenVINO.
        runtime: Its name; None: by the file's suffix (OpenVINO reads ``.onnx`` too).
        precision: ``'fp32'``; of OpenVINO also ``'bf16'``.
        **options: Of the runtime, by its own names.

    Attributes:
        classes: Names of the classes.
        size: Height and width of the graph's images.

    Raises:
        ConfigError: No such runtime or option, or the file is no whole detector or does not say how
            photographs are placed in its images.
        ExportError: The runtime is not installed, or the file cannot be read.

    Example::

        detector = ExportedDetector('detector.onnx')
        (found,) = detector([cv2.imread('photo.jpg')])
        print(found.boxes, [detector.classes[label] for label in found.labels])
    """

    def __init__(
        self,
        path: str | Path,
        runtime: str | None = None,
        precision: str = 'fp32',
        **options: Any,
    ) -> None:
        from .compiled import open_compiled

        self.session = open_compiled(path, runtime, precision, **options).session
        about = self.session.about
        if METADATA_KEY not in about:
            raise ConfigError(
                f'{path}: no whole detector of this version: export.py --part detector writes them'
            )
        self.classes, placing = AboutDetector.from_json(about[METADATA_KEY])
        if placing is None:
            raise ConfigError(
                f'{path}: it does not say how photographs become its images: the test pipeline of '
                'its config has steps that cannot be taken over; use effvit_mm.open_compiled'
            )
        sides: Any = self.session.sides  # it is of one size
        self.placing, self.size = placing, tuple(sides)
        self.normalisation = None if self.session.layout == PIXELS else _normalisation(about)

    def place(self, photograph: np.ndarray) -> Placed:
        """A photograph ``(h, w, 3)``, uint8, BGR, as the graph takes it."""
        image, shown = self.placing(photograph, self.size)
        if self.normalisation is None:
            tensor = torch.from_numpy(image.round().astype(np.uint8))
        else:
            mean, std, reverse = self.normalisation
            image = (image[..., ::-1] if reverse else image) - mean
            tensor = torch.from_numpy((image / std).transpose(2, 0, 1).copy())
        return Placed(tensor, shown, photograph.shape[:2])

    def find(self, placed: Sequence[Placed], score_thr: float = 0.0) -> list[Objects]:
        """Objects that score ``score_thr`` or more in placed photographs."""
        shown = [self.size if self.placing.fill_counts else one.shown for one in placed]
        images = torch.stack([one.image for one in placed])
        outputs = self.session(images, torch.tensor(shown, dtype=torch.float32))
        return [
            self._objects(one, score_thr, *(output[index] for output in outputs))
            for index, one in enumerate(placed)
        ]

    def __call__(self, photographs: Sequence[np.ndarray], score_thr: float = 0.0) -> list[Objects]:
        """Objects that score ``score_thr`` or more in ``(h, w, 3)``, uint8, BGR, of any sizes."""
        return self.find([self.place(photograph) for photograph in photographs], score_thr)

    def _objects(
        self,
        placed: Placed,
        score_thr: float,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        masks: np.ndarray | None = None,
    ) -> Objects:
        """Objects of a graph's outputs for one image, in the photograph's own pixels."""
        found = labels != NO_OBJECT
        there = found & (scores >= score_thr)
        left_out = float(scores[found].max()) if found.any() and not there.any() else None
        factors = np.array(placed.size, np.float32) / np.array(placed.shown, np.float32)
        height, width = placed.size
        boxes = boxes[there] * np.tile(factors[::-1], 2)
        if masks is not None:  # of whole boxes, which may reach into a fill that counts
            masks = paste_masks(masks[there], boxes, placed.size)
        boxes = boxes.clip(0, np.array([width, height] * 2, np.float32))
        return Objects(placed.size, boxes, scores[there], labels[there], masks, left_out)


def is_exported(path: str | Path) -> bool:
    """Whether a path is, by its name, a file of one of the runtimes rather than a config."""
    return Path(path).suffix in {row.format.suffix for row in RUNTIMES.values()}


def _normalisation(about: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Mean, deviation, and whether channels are to be reversed, of a file's metadata."""
    mean, std = (np.array(about[key].split(), np.float32) for key in ('mean', 'std'))
    return mean, std, about['channels'] == 'RGB'
