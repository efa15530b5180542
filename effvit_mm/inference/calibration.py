"""Images to quantise a network with, and to compare it on: a config's data, or a folder."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor

from ..errors import ConfigError
from ..openmm.config.building import building
from ..openmm.trained import innermost_dataset, test_dataset
from ..utils.images import load_image
from .export import LoadedNetwork
from .inputs import Image, find_images

LOADERS = ('train_dataloader', 'test_dataloader')
BATCH = 16


@dataclass(frozen=True)
class ImageBatches:
    """Batches of images, read when they are iterated over.

    Each is ``(B, 3, H, W)``, normalised, with the list of its labels, or None where there are none.

    Attributes:
        items: A data set of mmengine, or files.
        indices: Of the images among them.
        loaded: Whose normalisation, and whose preprocessor for data sets.
        size: Height and width in pixels that files are scaled to.

    Raises:
        ConfigError: The data set's images are of another size; raised while iterating.
        DataError: An image cannot be read; raised while iterating.
    """

    items: Any
    indices: Sequence[int]
    loaded: LoadedNetwork
    size: tuple[int, int]

    def __iter__(self) -> Iterator[tuple[Tensor, list[int] | None]]:
        for start in range(0, len(self.indices), BATCH):
            places = self.indices[start : start + BATCH]
            if isinstance(self.items, list):
                yield torch.stack([self._file(self.items[i]) for i in places]), None
            else:
                yield self._samples([self.items[i] for i in places])

    def _file(self, path: Path) -> Tensor:
        normalisation = self.loaded.network.normalisation
        height, width = self.size
        array = cv2.resize(load_image(path), (width, height), interpolation=cv2.INTER_AREA)
        if normalisation['order'] == 'RGB':
            array = array[..., ::-1]
        mean, std = (np.float32(normalisation[key]) for key in ('mean', 'std'))
        return torch.from_numpy(np.ascontiguousarray(((array - mean) / std).transpose(2, 0, 1)))

    def _samples(self, samples: list[dict]) -> tuple[Tensor, list[int] | None]:
        shapes = {tuple(sample['inputs'].shape[1:]) for sample in samples}
        if shapes != {self.size}:
            sizes = ', '.join(f'{h} x {w}' for h, w in sorted(shapes))
            raise ConfigError(
                f'the images of the test pipeline are of {sizes} pixels, the exported graph takes '
                f'{self.size[0]} x {self.size[1]}: change --shape or the pipeline'
            )
        batch = {'inputs': torch.stack([sample['inputs'] for sample in samples])}
        images = self.loaded.model.data_preprocessor(batch, False)['inputs']
        labels = [getattr(sample['data_samples'], 'gt_label', None) for sample in samples]
        if any(label is None or label.numel() != 1 for label in labels):
            return images, None
        return images, [int(label) for label in labels]


def find_calibration(
    loaded: LoadedNetwork, size: tuple[int, int], count: int, folder: str | Path | None = None
) -> tuple[ImageBatches, ImageBatches]:
    """Images to quantise with, at most ``count``, and others to compare on.

    Of a config: its training images, evenly spaced, through the test pipeline; and all test images.
    Of a folder: every second image of the first ``2 * count``; and those between them.

    Raises:
        ConfigError: There is neither; fewer than two images; no such number.
        DataError: The data cannot be read.
    """
    if count < 1:
        raise ConfigError(f'--images {count}: 1 or more is needed')
    if folder is not None:
        if not Path(folder).is_dir():
            raise ConfigError(f'--calibration {folder}: a folder of images is needed')
        files = [image.path for image in find_images(folder) if isinstance(image, Image)]
        if len(files) < 2:
            raise ConfigError(f'--calibration {folder}: two images or more are needed')
        files = files[: 2 * count]
        return tuple(ImageBatches(files, range(i, len(files), 2), loaded, size) for i in range(2))
    cfg = loaded.cfg
    if cfg is None or loaded.network.outputs in ('map', 'level'):
        raise ConfigError(
            f'eight bits need images, which {loaded.network.title} does not name: give a folder of '
            'them with --calibration'
        )
    nodes = [(cfg.get(key) or {}).get('dataset') for key in LOADERS]
    if None in nodes:
        raise ConfigError(
            'train_dataloader.dataset or test_dataloader.dataset is missing: give a folder of '
            'images with --calibration instead'
        )
    train, test = dict(innermost_dataset(nodes[0])), nodes[1]
    train['pipeline'] = test_dataset(cfg)['pipeline']
    scope = cfg.get('default_scope', 'mmpretrain')
    with DefaultScope.overwrite_default_scope(scope), building(cfg, *LOADERS):
        train_images, test_images = (DATASETS.build(copy.deepcopy(node)) for node in (train, test))
    step = max(len(train_images) // count, 1)
    return (
        ImageBatches(train_images, range(0, len(train_images), step)[:count], loaded, size),
        ImageBatches(test_images, range(len(test_images)), loaded, size),
    )
