"""A network of a config and a checkpoint, ready to look at images."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import nn

from ..deploy import switch_modules
from ..errors import DataError
from ..openmm.compiling import compile_model
from ..openmm.config.building import one_line
from ..openmm.config.loading import load_config
from ..openmm.datasets.transforms import LoadImage
from ..openmm.trained import (
    build_pipeline,
    find_device,
    find_labels,
    load_trained,
    pipeline_of_tests,
)
from ..openmm.trained_config import describe_other_pipeline
from ..runtime import check_runtime
from .videos import Image


class TrainedNetwork(ABC):
    """Set-up and reading of images, which classifiers, detectors and extractors share.

    Args:
        build: Makes the model of a config, its name, the checkpoint and ``trust_checkpoint``.
        config, checkpoint, device, deploy, cfg_options, trust_checkpoint, runtime, precision,
            runtime_options: As of :class:`~effvit_mm.Classifier`.

    Attributes:
        model: In evaluation, on its device.
        device: That device.
        classes, palette: Of the checkpoint, else of the config.
    """

    def __init__(
        self,
        build: Callable[..., nn.Module],
        config: str | Path,
        checkpoint: str | Path,
        device: str | None,
        deploy: bool,
        cfg_options: Sequence[str],
        trust_checkpoint: bool,
        runtime: str | None,
        precision: str,
        runtime_options: Mapping[str, Any] | None,
    ) -> None:
        if runtime is not None:
            check_runtime(runtime, precision, runtime_options)
            device = device or 'cpu'
        device = find_device(device)
        cfg = load_config(str(config), cfg_options)
        self.model = build(cfg, str(config), checkpoint, trust_checkpoint)
        meta = load_trained(self.model, checkpoint, trust_checkpoint)
        self.describe(cfg, meta)
        self._read, self._prepare = build_pipeline(cfg)
        steps = pipeline_of_tests(cfg)
        if other := describe_other_pipeline(steps, str(config), meta, str(checkpoint)):
            warnings.warn(other, stacklevel=1)
        self.model.eval()
        if runtime is not None:
            compile_model(self.model, runtime, precision, runtime_options)
        elif deploy:
            self.deploy()
        self.device = device
        self.model.to(device)

    def describe(self, cfg: Config, meta: Mapping) -> None:
        """Keep what is known of the loaded model, by its config and its checkpoint."""
        self.classes, self.palette = find_labels(cfg, meta, self.model)

    def deploy(self) -> None:
        """Bring the model into its deployed form."""
        switch_modules(self.model)

    def read(self, image: Image) -> dict:
        """An image as the pipeline's reader gives it; a DataError for one that cannot be read."""
        if image.array is not None:
            return self.read_array(image.array)
        try:
            return self._read({'img_path': str(image.path)})
        except DataError:
            raise
        except Exception as error:  # loaders of others raise what their backends do
            raise DataError(f'{image} cannot be read: {one_line(error)}') from error

    def read_array(self, array: np.ndarray) -> dict:
        """The same of an array."""
        return LoadImage(self._read.to_float32)({'img': array})

    @abstractmethod
    def load(self, image: Image) -> Any:
        """An image as the network takes it."""

    def shape(self, loaded: dict) -> Sequence[int]:
        """Of what was loaded: those of one shape can be looked at together."""
        return loaded['inputs'].shape
