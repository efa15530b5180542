"""What is exported: a network in its deployed form, as a function of images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..deploy.switch import switch_modules
from ..errors import ConfigError
from ..models import MODEL_TABLE, create_model
from ..openmm.config.loading import load_config
from ..openmm.engine.reid_testing import is_reid
from ..openmm.trained import (
    build_classifier,
    build_detector,
    build_reid,
    load_trained,
    test_dataset,
)

PARTS = ('whole', 'backbone', 'neck')
IMAGENET = {'mean': (123.675, 116.28, 103.53), 'std': (58.395, 57.12, 57.375), 'order': 'RGB'}


class ImagesToTensors(nn.Module):
    """A network in evaluation, deployed: ``(B, 3, H, W)``, normalised, to a tuple of tensors.

    Args:
        network: Is changed in place.
        call: Name of the method to call, for networks of OpenMMLab that have several.
    """

    def __init__(self, network: nn.Module, call: str = 'forward') -> None:
        super().__init__()
        self.network, self.call = network, call
        self.eval()
        switch_modules(self)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(_flatten(getattr(self.network, self.call)(images)))


def _flatten(found: Tensor | Sequence) -> list[Tensor]:
    """The tensors of nested sequences: class tokens come as a list in a tuple."""
    if isinstance(found, Tensor):
        return [found]
    return [tensor for part in found for tensor in _flatten(part)]


class Source(NamedTuple):
    """A network to export.

    Attributes:
        title: How messages and files call it.
        network: See :class:`ImagesToTensors`.
        outputs: What the outputs are: ``'logits'``, ``'feature'``, ``'map'`` or ``'level'``.
        size: Height and width in pixels that it was made for; None where nothing says so.
        normalisation: ``mean`` and ``std`` of the pixels 0 to 255, and ``order``, of its images.
        cfg: The config that it comes from; None of a name.
        model: The whole model of that config, with its data preprocessor.
    """

    title: str
    network: ImagesToTensors
    outputs: str
    size: tuple[int, int] | None
    normalisation: Mapping[str, Any]
    cfg: Any = None
    model: nn.Module | None = None

    def output_names(self, count: int) -> list[str]:
        """A name for each of the outputs."""
        return [self.outputs] if count == 1 else [f'{self.outputs}_{i}' for i in range(count)]

    def metadata(self, least: int | None) -> dict[str, str]:
        """What a file says of itself; ``least`` is the least side of images of any size."""
        numbers = {key: self.normalisation[key] for key in ('mean', 'std')}
        return {
            'model': self.title,
            'channels': self.normalisation['order'],
            **({} if least is None else {'least_side': str(least)}),
            **{key: ' '.join(f'{v:g}' for v in value) for key, value in numbers.items()},
        }

    def notes(self) -> list[str]:
        """What a user should know of this network's graphs."""
        for module in self.network.modules():
            if getattr(module, 'samples_tokens', False) and getattr(module, 'sample', False):
                points = module.num_samples or 'as many places as the image has patches'
                return [
                    f'it samples tokens: a graph has room for the same number of each image, here '
                    f'{points}; the option num_samples of the attention makes it smaller'
                ]
        return []


def source_of(network: nn.Module, title: str = 'model', outputs: str = 'logits') -> Source:
    """Any network that maps images to tensors, trained on ImageNet's mean and deviation.

    Args:
        network: Is brought into its deployed form, in place.
        title: How messages and files call it.
        outputs: How its outputs are called.
    """
    return Source(title, ImagesToTensors(network), outputs, None, IMAGENET)


def load_source(
    model: str,
    checkpoint: str | Path | None = None,
    part: str | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
) -> Source:
    """Build a network, load its weights and bring it into its deployed form.

    Args:
        model: One of :func:`effvit_mm.list_models`, or a config file: a classifier, a re-ID model
            or a detector.
        checkpoint: Weights; random ones where it is None.
        part: ``'whole'`` (logits, or a re-ID feature behind the BNNeck), ``'backbone'`` (its maps)
            or ``'neck'`` (the backbone and the neck of a detector). None is the whole, and of
            detectors, whose boxes are left to mmdet, the neck.
        overrides: ``key=value`` pairs for the config.
        trust: Read checkpoints that hold more than weights.

    Raises:
        ConfigError: The model has no such part, or there is no such model.
        CheckpointError: The weights do not fit.
    """
    if part is not None and part not in PARTS:
        raise ConfigError(f'--part {part}: allowed are {", ".join(PARTS)}')
    if model in MODEL_TABLE:
        if overrides:
            raise ConfigError(f'--cfg-options: {model} is the name of a model, not a config')
        return _named(model, checkpoint, part or 'whole', trust)
    if not Path(model).suffix:
        raise ConfigError(f'{model} is neither a config file nor one of effvit_mm.list_models()')
    return _configured(model, checkpoint, part, overrides, trust)


def _named(name: str, checkpoint: str | Path | None, part: str, trust: bool) -> Source:
    """A model of the table."""
    if part == 'neck':
        raise ConfigError(f"--part neck: {name} has none; a detector's config does")
    maps = part == 'backbone'
    network = create_model(name, None, features_only=maps, checkpoint=checkpoint, trust=trust)
    family, preset = MODEL_TABLE[name]
    side = family.backbone.arch_settings[preset['arch']].get('img_size', 224)
    outputs = 'map' if part == 'backbone' else 'logits'
    return Source(name, ImagesToTensors(network), outputs, (side, side), IMAGENET)


def _configured(
    config: str,
    checkpoint: str | Path | None,
    part: str | None,
    overrides: Sequence[str],
    trust: bool,
) -> Source:
    """A model of a config file."""
    cfg = load_config(config, overrides)
    if is_reid(cfg):
        model, whole = build_reid(cfg, config), ('forward', 'feature')
    elif cfg.get('default_scope') == 'mmdet':
        model, whole = build_detector(cfg, config), None
    else:
        model, whole = build_classifier(cfg, config), ('forward', 'logits')
    part = part or ('neck' if whole is None else 'whole')
    if part == 'whole' and whole is None:
        raise ConfigError(f'--part whole: the boxes of a detector ({config}) are left to mmdet')
    if part == 'neck' and whole is not None:
        raise ConfigError(f'--part neck: {config} is no detector')
    if checkpoint is not None:
        load_trained(model, checkpoint, trust)
    if part == 'backbone':
        network, outputs = ImagesToTensors(model.backbone), 'map'
    elif part == 'neck':
        network, outputs = ImagesToTensors(model, 'extract_feat'), 'level'
    else:
        network, outputs = ImagesToTensors(model, whole[0]), whole[1]
    title = Path(config).stem
    return Source(title, network, outputs, image_size(cfg), _normalisation(model), cfg, model)


def _normalisation(model: nn.Module) -> Mapping[str, Any]:
    """Mean and deviation of a model's preprocessor."""
    given = model.data_preprocessor
    mean, std = (
        [float(v) for v in torch.as_tensor(getattr(given, key, default)).flatten()]
        for key, default in (('mean', (0.0,) * 3), ('std', (1.0,) * 3))
    )
    flips = getattr(given, 'to_rgb', False) or getattr(given, '_channel_conversion', False)
    return {'mean': mean, 'std': std, 'order': 'RGB' if flips else 'BGR'}


def image_size(cfg: Mapping) -> tuple[int, int] | None:
    """Height and width of a config's test images; None where they are not all of one size."""
    for step in reversed(test_dataset(cfg).get('pipeline') or []):
        kind = str(step.get('type')).rpartition('.')[2]
        side = step.get({'CenterCrop': 'crop_size', 'Resize': 'scale'}.get(kind, ''))
        if isinstance(side, int):
            return side, side
        if isinstance(side, list | tuple) and len(side) == 2 and not step.get('keep_ratio'):
            height, width = side if kind == 'CenterCrop' else side[::-1]  # Resize has width first
            return height, width
    return None
