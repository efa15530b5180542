"""The test pipeline of a config as steps that need no OpenMMLab, for the metadata of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmcv import transforms
from mmengine.config import Config
from mmengine.dataset import Compose
from torch import nn

from ..errors import ConfigError
from ..openmm.config.building import building
from ..openmm.datasets.transforms import LoadImage
from ..openmm.trained import build_transforms, test_dataset
from ..runtime.exported_detector import Placing
from ..runtime.pixels import (
    INTERPOLATIONS,
    CenterCrop,
    Normalise,
    Preprocessing,
    Resize,
    ResizeEdge,
    Step,
)
from ..utils.silence import silent_imports

with silent_imports():
    from mmdet.datasets.transforms import PackDetInputs
    from mmpretrain.datasets.transforms import PackInputs
    from mmpretrain.datasets.transforms import ResizeEdge as ResizeEdgeTransform

# Values of options with which transforms can be taken over.
READS = {'to_float32': (False,), 'color_type': ('color',), 'imdecode_backend': ('cv2',)}
BACKENDS = {'backend': tuple(INTERPOLATIONS)}
# Of each transform these values, and the step that it becomes: None of those that read a file or
# pack what they are given.
TAKEN_OVER = {
    LoadImage: (READS, lambda step: None),
    transforms.LoadImageFromFile: (READS, lambda step: None),
    transforms.Resize: (
        {'scale_factor': (None,), 'keep_ratio': (False,), **BACKENDS},
        lambda step: Resize(*step.scale, step.interpolation, step.backend),
    ),
    ResizeEdgeTransform: (
        BACKENDS,
        lambda step: ResizeEdge(step.scale, step.edge, step.interpolation, step.backend),
    ),
    transforms.CenterCrop: ({'auto_pad': (False,)}, lambda step: CenterCrop(*step.crop_size)),
    PackInputs: ({}, lambda step: None),
}
# Of a detector's test pipeline: what neither moves nor changes a pixel.
PLACED_AS_THEY_ARE = (transforms.LoadImageFromFile, transforms.LoadAnnotations, PackDetInputs)
# Height and width of photographs to compare on: wider, taller, smaller than a network's images.
PHOTOGRAPHS = ((480, 641), (655, 482), (13, 19))


def find_preprocessing(
    cfg: Config, model: nn.Module, normalisation: Mapping[str, Any]
) -> Preprocessing:
    """The steps of a config's test pipeline, compared with it bit for bit on images of noise.

    Args:
        cfg: The config of a classifier or a re-ID model.
        model: Its model, with its data preprocessor.
        normalisation: What is to give that preprocessor's values: :class:`Normalise`.

    Raises:
        ConfigError: The config has no test pipeline, or a step that cannot be taken over.
    """
    with building(cfg, 'test_dataloader'):
        pipeline = build_transforms(cfg)
    steps = [_taken_over(number, step) for number, step in enumerate(pipeline)]
    taken = Preprocessing(tuple(step for step in steps if step is not None))
    rest = Compose(
        [step for step in pipeline if not isinstance(step, transforms.LoadImageFromFile)]
    )
    normalise, generator = Normalise(normalisation), np.random.default_rng(0)
    for size in PHOTOGRAPHS:
        image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        want = rest({'img': image, 'img_shape': size, 'ori_shape': size})['inputs']
        pixels = taken.read(image)
        if not torch.equal(pixels[0].permute(2, 0, 1), want):
            raise ConfigError(
                '--preprocess: the steps of test_dataloader.dataset.pipeline do not give its '
                f'pixels for an image of {size[0]} x {size[1]}: another version of mmcv is needed'
            )
        want = model.data_preprocessor({'inputs': want[None]}, False)['inputs']
        got = normalise(pixels)
        if want.shape != got.shape or not torch.allclose(want, got):
            raise ConfigError(
                f'--preprocess: the data preprocessor ({type(model.data_preprocessor).__name__}) '
                'does more than order of channels, mean and deviation: it cannot be taken over'
            )
    return taken


def _taken_over(number: int, step: Any) -> Step | None:
    """A transform as a step; None of one that leaves the pixels as they are."""
    name = f'test_dataloader.dataset.pipeline[{number}] ({type(step).__name__})'
    if type(step) not in TAKEN_OVER:
        known = ', '.join(sorted(cls.__name__ for cls in TAKEN_OVER))
        raise ConfigError(f'--preprocess: {name} cannot be taken over: {known} can')
    allowed, convert = TAKEN_OVER[type(step)]
    if (backend := getattr(step, 'backend', None)) in INTERPOLATIONS:
        allowed = {**allowed, 'interpolation': INTERPOLATIONS[backend]}
    for key, values in allowed.items():
        if getattr(step, key) not in values:
            text = ' or '.join(map(repr, values))
            raise ConfigError(
                f'--preprocess: {name}: {key}={getattr(step, key)!r} cannot be taken over: {text} '
                'can'
            )
    return convert(step)


def find_placing(cfg: Config, model: nn.Module, normalisation: Mapping[str, Any]) -> Placing | None:
    """How a detector's test pipeline makes its images of photographs.

    Args:
        cfg: The config of a detector.
        model: Its model, whose data preprocessor pads after normalising.
        normalisation: Its ``mean``, ``std`` and ``order``.

    Returns:
        What a file can say of it; None where there is no test pipeline, or one with a transform
        that cannot be taken over.
    """
    if not (test_dataset(cfg).get('pipeline') or cfg.get('test_pipeline')):
        return None
    mean, std = (np.broadcast_to(normalisation[key], 3) for key in ('mean', 'std'))
    fill = mean + model.data_preprocessor.pad_value * std
    if normalisation['order'] == 'RGB':
        fill = fill[::-1]
    resizing, fill_counts = None, False
    for step in build_transforms(cfg):
        if isinstance(step, transforms.Resize) and step.scale and step.backend in INTERPOLATIONS:
            scale = max(step.scale), min(step.scale)
            resizing = scale if step.keep_ratio else None, step.interpolation, step.backend
        elif isinstance(step, transforms.Pad) and step.padding_mode == 'constant':
            fill, fill_counts = np.broadcast_to(step.pad_val['img'], 3), True
        elif not isinstance(step, PLACED_AS_THEY_ARE):
            return None
    if resizing is None:
        return None
    return Placing(*resizing, tuple(map(float, fill)), fill_counts)
