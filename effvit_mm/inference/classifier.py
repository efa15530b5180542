"""A trained classifier on images of all kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from ..openmm.trained import build_classifier
from ..runtime.network import CLASSES_KEY
from .inferencer import Inferencer
from .models import check_model
from .photograph_file import PhotographFile
from .results import Classification
from .trained_network import TrainedNetwork
from .videos import Image


class TrainedClassifier(TrainedNetwork):
    """A classifier of a config and a checkpoint; arguments are those of :class:`Classifier`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(build_classifier, *args)

    def load(self, image: Image) -> dict:
        """One image as the network's data preprocessor takes it."""
        return self._prepare(self.read(image))

    @torch.no_grad()
    def compute(self, loaded: Sequence[dict]) -> list[np.ndarray]:
        """(C,) float32 of each: the scores."""
        samples = self.model.test_step(pseudo_collate(loaded))
        return [sample.pred_score.cpu().numpy() for sample in samples]


class FileClassifier(PhotographFile):
    """What ``export.py --preprocess`` wrote of a classifier, in its runtime."""

    kind, key = 'classifier', CLASSES_KEY

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.classes = tuple(json.loads(self.told))

    def compute(self, loaded: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(self.outputs(loaded).softmax(-1).numpy())


class Classifier(Inferencer[Classification]):
    """Classes of images, by a trained classifier; the data set need not be there.

    Args:
        config: Config file of the classifier; or a file of ``export.py --preprocess``, ``.onnx`` or
            ``.xml``, which needs nothing else.
        checkpoint: The config's weights: ``.pth`` or ``.safetensors``.
        device: ``'cpu'``, ``'cuda:0'``; None takes CUDA where there is one.
        deploy: Run the form that ``switch_to_deploy()`` makes: the same results, faster.
        cfg_options: ``key=value`` overrides of the config.
        trust_checkpoint: Read a checkpoint that holds more than weights; this can run code it
            carries.
        runtime: Compute the deployed network by another runtime on the CPU: ``'openvino'``,
            ``'onnxruntime'``, ``'inductor'``: see :func:`effvit_mm.compile`. Of an exported file:
            by its suffix.
        precision: Of the runtime: ``'fp32'``, or ``'bf16'``.
        runtime_options: The runtime's own, by its own names.

    Attributes:
        classes: Names of the classes: of the checkpoint, else of the config, else numbers.

    Raises:
        ConfigError: The config or the device cannot be used, or an argument is of no use for a
            file.
        CheckpointError: The checkpoint cannot be read, or is of another model.

    Example::

        classifier = effvit_mm.Classifier('config.py', 'epoch_20.pth')
        for result in classifier(['a.jpg', 'b.jpg']):
            print(result.image, result.name, result.score, result.top(3))
    """

    doing = 'classifying'

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        deploy: bool = True,
        cfg_options: Sequence[str] = (),
        trust_checkpoint: bool = False,
        runtime: str | None = None,
        precision: str = 'fp32',
        runtime_options: Mapping[str, Any] | None = None,
    ) -> None:
        running = runtime, precision, runtime_options
        if check_model(config, checkpoint, cfg_options, device):
            self.network = FileClassifier(config, *running)
        else:
            options = device, deploy, cfg_options, trust_checkpoint
            self.network = TrainedClassifier(config, checkpoint, *options, *running)
        self.classes = self.network.classes

    def result(self, image: Image, found: np.ndarray) -> Classification:
        """Of the scores of an image."""
        return Classification(image.name, image.frame, found, self.classes)
