"""A trained re-ID model on images of all kinds: features to search with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import DataError
from .extractors import FileExtractor, TrainedExtractor
from .inferencer import Inferencer
from .inputs import Input, OnFault, find_images
from .models import check_model
from .results import PersonFeature, PersonFeatures
from .videos import Image


def find_people(
    inputs: Input, subfolders: bool = False, on_fault: OnFault | None = None
) -> list[Image]:
    """Files of images of people, for a gallery or a ranking, which name files.

    Args:
        inputs, subfolders, on_fault: As of ``find_images``.

    Raises:
        DataError: A file or folder is missing, a folder has no image, or one is no image file.
    """
    images = find_images(inputs, subfolders, on_fault=on_fault)
    if others := [one for one in images if not isinstance(one, Image)]:
        name = f'video {path}' if (path := getattr(others[0], 'path', None)) else others[0].name
        raise DataError(f'{name}: images of people are needed: cut them out of it')
    return images


class ReIDExtractor(Inferencer[PersonFeature]):
    """Features of people, by a trained model; the data set need not be there.

    An image shows one person, cut out. A call gives :class:`PersonFeatures`: all features in one
    array, behind the BNNeck and not normalised, for a gallery; its items are results, as
    ``stream`` gives them one by one.

    Args:
        config: Config file of the model; or a file of ``export.py --preprocess``, ``.onnx`` or
            ``.xml``, which needs nothing else.
        checkpoint: The config's weights: ``.pth`` or ``.safetensors``.
        device: ``'cpu'``, ``'cuda:0'``; None takes CUDA where there is one.
        deploy: Run the form that ``switch_to_deploy()`` makes: the same features, faster.
        flip: Average the features of an image and of its mirror image.
        cfg_options: ``key=value`` overrides of the config.
        trust_checkpoint: Read a checkpoint that holds more than weights; this can run code it
            carries.
        runtime: Compute the deployed network by another runtime on the CPU: ``'openvino'``,
            ``'onnxruntime'``, ``'inductor'``. It is compiled for the images' sizes as they come,
            and kept: see :func:`effvit_mm.compile`. Of an exported file: by its suffix.
        precision: Of the runtime: ``'fp32'``, or ``'bf16'``.
        runtime_options: The runtime's own, by its own names.

    Attributes:
        identity: Of the model; features of another cannot be compared with these.
        preparation: How images are prepared for it, ``flip`` included; likewise.

    Raises:
        ConfigError: The config or the device cannot be used, or an argument is of no use for a
            file.
        CheckpointError: The checkpoint cannot be read, or is of another model.

    Example::

        extractor = effvit_mm.ReIDExtractor('config.py', 'epoch_60.pth')
        features = extractor('crops')  # features.features: (N, D), features.paths
        features[0].image, features[0].feature  # one of its results
    """

    doing = 'extracting'

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        deploy: bool = True,
        flip: bool = False,
        cfg_options: Sequence[str] = (),
        trust_checkpoint: bool = False,
        runtime: str | None = None,
        precision: str = 'fp32',
        runtime_options: Mapping[str, Any] | None = None,
    ) -> None:
        running = runtime, precision, runtime_options
        if check_model(config, checkpoint, cfg_options, device):
            self.network = FileExtractor(flip, config, *running)
        else:
            options = device, deploy, cfg_options, trust_checkpoint
            self.network = TrainedExtractor(flip, config, checkpoint, *options, *running)
        self.identity, self.preparation = self.network.identity, self.network.preparation
        self.flip = flip

    @property
    def model(self) -> nn.Module:
        """The model of the config."""
        return self.network.model

    def normalised(self, images: Sequence[Tensor]) -> Tensor:
        """Images of :meth:`load` as the model takes them: ``(B, 3, H, W)``, on the device."""
        return self.network.normalised(images)

    def __call__(
        self,
        inputs: Input,
        batch_size: int | None = None,
        progress: bool = False,
        *,
        rgb: bool = False,
        subfolders: bool = False,
        on_error: str = 'raise',
    ) -> PersonFeatures:
        """Features of images: see :meth:`Inferencer.__call__`."""
        options = {'rgb': rgb, 'subfolders': subfolders, 'on_error': on_error}
        return PersonFeatures(list(self.stream(inputs, batch_size, progress, **options)))

    def result(self, image: Image, found: np.ndarray) -> PersonFeature:
        """Of the feature of an image.

        Raises:
            DataError: It is not a finite number.
        """
        if not np.isfinite(found).all():
            raise DataError(f'{image}: its feature is not a finite number: the weights are broken')
        return PersonFeature(image.name, image.frame, found, self.identity, self.preparation)
