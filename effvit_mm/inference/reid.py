"""A trained re-ID model on images, folders and arrays: features to search with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..openmm.compiling import compile_model
from ..openmm.config.building import one_line
from ..openmm.config.loading import load_config
from ..openmm.datasets.transforms import LoadImage
from ..openmm.reid.preparation import describe_preparation
from ..openmm.trained import build_pipeline, build_reid, find_device, load_trained
from ..reid.features import ReIDFeatures, model_identity
from ..runtime import check_runtime
from .batches import check_batch_size, in_batches, with_bar
from .inputs import Image, Input, OnFault, Video, find_images

UNKNOWN = -1


def find_people(inputs: Input) -> list[Image]:
    """Images of people: files, all of a folder (not its subfolders), arrays, lists of these.

    Raises:
        DataError: A file or folder is missing, a folder has no image, an array is no image, or one
            of them is a video.
    """
    images = find_images(inputs)
    if videos := [image.path for image in images if isinstance(image, Video)]:
        raise DataError(f'video {videos[0]}: images of people are needed: cut them out of it')
    return images


class ReIDExtractor:
    """Features of people, by a trained model; the data set need not be there.

    Args:
        config: Config file of the model.
        checkpoint: Its weights: ``.pth`` or ``.safetensors``.
        device: ``'cpu'``, ``'cuda:0'``; None takes CUDA where there is one.
        deploy: Run the form that ``switch_to_deploy()`` makes: the same features, faster.
        flip: Average the features of an image and of its mirror image.
        cfg_options: ``key=value`` overrides of the config.
        trust_checkpoint: Read a checkpoint that holds more than weights; this can run code it
            carries.
        runtime: Compute the deployed network by another runtime on the CPU: ``'openvino'``,
            ``'onnxruntime'``, ``'inductor'``. It is compiled for the images' sizes as they come,
            and kept: see :func:`effvit_mm.compile`.
        precision: Of the runtime: ``'fp32'``, or ``'bf16'``.
        runtime_options: The runtime's own, by its own names.

    Attributes:
        identity: Of the model; features of another cannot be compared with these.
        preparation: How images are prepared for it, ``flip`` included; likewise.

    Raises:
        ConfigError: The config or the device cannot be used.
        CheckpointError: The checkpoint cannot be read, or is of another model.

    Example::

        extractor = effvit_mm.ReIDExtractor('config.py', 'epoch_60.pth')
        features = extractor('crops')  # ReIDFeatures: features (N, D), paths
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path,
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
        if runtime is not None:
            check_runtime(runtime, precision, runtime_options)
            device = device or 'cpu'
        self.device = find_device(device)
        cfg = load_config(str(config), cfg_options)
        self.model = build_reid(cfg, str(config))
        load_trained(self.model, checkpoint, trust_checkpoint)
        self.identity = model_identity(self.model, type(self.model.backbone).__name__)
        self.preparation = describe_preparation(cfg, flip)
        self._read, self._prepare = build_pipeline(cfg)
        self.flip = flip
        self.model.eval()
        if runtime is not None:
            compile_model(self.model, runtime, precision, runtime_options)
        elif deploy:
            self.model.switch_to_deploy()
        self.model.to(self.device)

    def __call__(self, inputs: Input, batch_size: int = 32, progress: bool = False) -> ReIDFeatures:
        """Features of images.

        Args:
            inputs: An image file, a folder of images (not its subfolders), an array, or a list of
                these. An image shows one person, cut out. Arrays are uint8 in OpenCV's order, blue
                first: ``(H, W, 3)``, with alpha ``(H, W, 4)``, or grey ``(H, W)``.
            batch_size: Images that go through the network together.
            progress: Show a bar on the terminal.

        Returns:
            Features ``(N, D)`` behind the BNNeck, not normalised, and the files (of an array an
            empty name). Persons and cameras are -1: they are not known.

        Raises:
            DataError: An input is missing, unreadable or of another kind.
        """
        parts = list(self.stream(inputs, batch_size, progress))
        unknown = np.full(sum(map(len, parts)), UNKNOWN)
        return ReIDFeatures(
            np.concatenate([part.features for part in parts]),
            pids=unknown,
            camids=unknown,
            paths=[path for part in parts for path in part.paths],
            model=self.identity,
            source='extracted features',
            preparation=self.preparation,
        )

    def stream(
        self,
        inputs: Input,
        batch_size: int = 32,
        progress: bool = False,
        on_fault: OnFault | None = None,
    ) -> Iterator[ReIDFeatures]:
        """Features batch by batch, for any number of images; arguments are those of a call.

        With ``on_fault`` an image that cannot be used is left out, and its DataError handed over;
        without it the error ends all.
        """
        check_batch_size(batch_size)
        images = with_bar(find_people(inputs), progress, 'extracting')
        return self._run(images, batch_size, on_fault)

    def _run(
        self, images: Iterable[Image], batch_size: int, on_fault: OnFault | None
    ) -> Iterator[ReIDFeatures]:
        batches = in_batches(images, self.load, lambda loaded: loaded.shape, batch_size, on_fault)
        yield from map(self._features, batches)

    def _features(self, batch: Sequence[tuple[Image, Tensor]]) -> ReIDFeatures:
        unknown = np.full(len(batch), UNKNOWN)
        features = ReIDFeatures(
            self._extract([tensor for _, tensor in batch]),
            pids=unknown,
            camids=unknown,
            paths=[str(image.path or '') for image, _ in batch],
            model=self.identity,
            source='extracted features',
            preparation=self.preparation,
        )
        features.check_finite()
        return features

    def load(self, image: Image) -> Tensor:
        """One image as the network's data preprocessor takes it: ``(3, H, W)``."""
        if image.array is not None:
            results = LoadImage(self._read.to_float32)({'img': image.array})
        else:
            try:
                results = self._read({'img_path': str(image.path)})
            except DataError:
                raise
            except Exception as error:  # loaders of others raise what their backends do
                raise DataError(f'{image} cannot be read: {one_line(error)}') from error
        return self._prepare(results)['inputs']

    def normalised(self, images: Sequence[Tensor]) -> Tensor:
        """Images of :meth:`load` as the network takes them: ``(B, 3, H, W)``, on the device."""
        return self.model.data_preprocessor({'inputs': torch.stack(list(images))})['inputs']

    @torch.no_grad()
    def _extract(self, batch: Sequence[Tensor]) -> np.ndarray:
        inputs = self.normalised(batch)
        features = self.model(inputs)
        if self.flip:
            features = (features + self.model(inputs.flip(-1))) / 2
        return features.float().cpu().numpy()
