"""What looks for objects in a batch of images: a detector of mmdet's, or an exported file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from ..errors import ConfigError, DataError
from ..openmm.data_checks.image_sizes import pipeline_scales, scaled_to_nothing
from ..openmm.trained import build_detector
from ..runtime import ExportedDetector
from ..runtime.exported_detector import Objects, Placed
from ..utils.images import load_image
from .inputs import Image
from .trained_network import TrainedNetwork


class Detector(Protocol):
    """Images, one by one, and then the objects of several that the network takes in one size.

    Attributes:
        classes: Names of the classes.
        palette: Their colours; None where they are not known.
    """

    classes: tuple[str, ...]
    palette: Any

    def load(self, image: Image) -> Any:
        """An image as the network takes it; a DataError for one that cannot be read."""

    def shape(self, loaded: Any) -> Sequence[int]:
        """Of what was loaded: those of one shape can be looked at together."""

    def find(self, loaded: Sequence[Any], score_thr: float) -> list[Objects]:
        """The objects of each that score this much or more."""


class TrainedDetector(TrainedNetwork):
    """A detector of a config and a checkpoint; arguments are those of ``DetInferencer``."""

    def __init__(self, *args: Any) -> None:
        super().__init__(build_detector, *args)

    def load(self, image: Image) -> dict:
        """One image as the network's data preprocessor takes it."""
        results = self.read(image)
        height, width = results['img_shape']
        if fault := scaled_to_nothing((width, height), pipeline_scales(self._prepare)):
            raise DataError(f'{image} {fault}')
        results['img_id'] = 0
        return self._prepare(results)

    def read_array(self, array: np.ndarray) -> dict:
        from mmdet.datasets.transforms import LoadImageFromNDArray

        return LoadImageFromNDArray(to_float32=self._read.to_float32)({'img': array})

    @torch.no_grad()
    def find(self, loaded: Sequence[dict], score_thr: float) -> list[Objects]:
        samples = self.model.test_step(pseudo_collate(loaded))
        return [_of_sample(sample, score_thr) for sample in samples]


def _of_sample(sample: Any, score_thr: float) -> Objects:
    """The objects of one of mmdet's samples."""
    objects = sample.pred_instances
    objects = objects[objects.scores >= score_thr].cpu()
    masks = np.asarray(objects.masks, dtype=bool) if 'masks' in objects else None
    arrays = (objects[name].numpy() for name in ('bboxes', 'scores', 'labels'))
    return Objects(tuple(map(int, sample.ori_shape)), *arrays, masks)


class FileDetector:
    """What ``export.py --part detector`` wrote, in its runtime; mmdet is not needed."""

    palette = None

    def __init__(
        self,
        path: str | Path,
        runtime: str | None,
        precision: str,
        runtime_options: Mapping[str, Any] | None,
    ) -> None:
        self.detector = ExportedDetector(path, runtime, precision, **(runtime_options or {}))
        self.classes = self.detector.classes

    def load(self, image: Image) -> Placed:
        array = load_image(image.path) if image.array is None else image.array
        try:
            return self.detector.place(array)
        except ConfigError as error:
            raise DataError(f'{image}: {error}') from error

    def shape(self, loaded: Placed) -> Sequence[int]:
        return loaded.image.shape

    def find(self, loaded: Sequence[Placed], score_thr: float) -> list[Objects]:
        return self.detector.find(loaded, score_thr)
