"""What gives features of people: a re-ID model of a config, or an exported file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..openmm.reid.preparation import describe_preparation, with_flip
from ..openmm.trained import build_reid
from ..reid.features import model_identity
from ..runtime.network import FEATURES_KEY
from .photograph_file import PhotographFile
from .trained_network import TrainedNetwork
from .videos import Image


def describe_features(model: nn.Module, cfg: Config) -> str:
    """What a file says of the features that it gives; of a model before it is deployed."""
    return json.dumps({'model': identity_of(model), 'preparation': describe_preparation(cfg)})


def identity_of(model: nn.Module) -> str:
    """Of a re-ID model: features of another cannot be compared with its own."""
    return model_identity(model, type(model.backbone).__name__)


class TrainedExtractor(TrainedNetwork):
    """A re-ID model of a config and a checkpoint.

    Args:
        flip: Average the features of an image and of its mirror image.
        *args: Of :class:`~effvit_mm.ReIDExtractor`.

    Attributes:
        identity, preparation: As of that.
    """

    def __init__(self, flip: bool, *args: Any) -> None:
        self.flip = flip
        super().__init__(lambda cfg, name, *_: build_reid(cfg, name), *args)

    def describe(self, cfg: Config, meta: Mapping) -> None:
        self.identity = identity_of(self.model)
        self.preparation = describe_preparation(cfg, self.flip)

    def deploy(self) -> None:
        self.model.switch_to_deploy()

    def load(self, image: Image) -> Tensor:
        """One image as the network's data preprocessor takes it: ``(3, H, W)``."""
        return self._prepare(self.read(image))['inputs']

    def shape(self, loaded: Tensor) -> Sequence[int]:
        return loaded.shape

    def normalised(self, images: Sequence[Tensor]) -> Tensor:
        """Images of :meth:`load` as the network takes them: ``(B, 3, H, W)``, on the device."""
        return self.model.data_preprocessor({'inputs': torch.stack(list(images))})['inputs']

    @torch.no_grad()
    def compute(self, loaded: Sequence[Tensor]) -> np.ndarray:
        """(B, D) float32: the features."""
        inputs = self.normalised(loaded)
        features = self.model(inputs)
        if self.flip:
            features = (features + self.model(inputs.flip(-1))) / 2
        return features.float().cpu().numpy()


class FileExtractor(PhotographFile):
    """What ``export.py --preprocess`` wrote of a re-ID model; arguments as above."""

    kind, key = 're-ID model', FEATURES_KEY

    def __init__(self, flip: bool, *args: Any) -> None:
        super().__init__(*args)
        self.flip, told = flip, json.loads(self.told)
        self.identity, self.preparation = told['model'], with_flip(told['preparation'], flip)

    def compute(self, loaded: Sequence[np.ndarray]) -> np.ndarray:
        features = self.outputs(loaded)
        if self.flip:
            features = (features + self.outputs(loaded, mirrored=True)) / 2
        return features.float().numpy()
