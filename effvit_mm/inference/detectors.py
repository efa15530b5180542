"""What looks for objects in a batch of images: a detector of mmdet's, or an exported file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from ..errors import ConfigError, DataError
from ..openmm.data_checks.image_sizes import pipeline_scales, scaled_to_nothing
from ..openmm.trained import build_detector
from ..runtime import ExportedDetector
from ..runtime.exported_detector import Objects, Placed
from .trained_network import TrainedNetwork
from .videos import Image

SCORE_THRESHOLD = 0.3


class TrainedDetector(TrainedNetwork):
    """A detector of a config and a checkpoint; arguments are those of ``Detector``."""

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
    def compute(
        self, loaded: Sequence[dict], score_thr: float = SCORE_THRESHOLD, masks: bool = False
    ) -> list[Objects]:
        """The objects of each that score this much or more."""
        samples = self.model.test_step(pseudo_collate(loaded))
        return [_of_sample(sample, score_thr, masks) for sample in samples]


def _of_sample(sample: Any, score_thr: float, masks: bool) -> Objects:
    """The objects of one of mmdet's samples."""
    candidates = sample.pred_instances
    objects = candidates[candidates.scores >= score_thr].cpu()
    nothing = len(candidates) and not len(objects)
    left_out = float(candidates.scores.max()) if nothing else None
    masks = np.asarray(objects.masks, dtype=bool) if masks and 'masks' in objects else None
    arrays = (objects[name].numpy() for name in ('bboxes', 'scores', 'labels'))
    return Objects(tuple(map(int, sample.ori_shape)), *arrays, masks, left_out)


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
        array = image.pixels()
        try:
            return self.detector.place(array)
        except ConfigError as error:
            raise DataError(f'{image}: {error}') from error

    def shape(self, loaded: Placed) -> Sequence[int]:
        return loaded.image.shape

    def compute(
        self, loaded: Sequence[Placed], score_thr: float = SCORE_THRESHOLD, masks: bool = False
    ) -> list[Objects]:
        found = self.detector.find(loaded, score_thr)
        return found if masks else [objects._replace(masks=None) for objects in found]
