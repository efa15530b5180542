"""From a config or a name, and a checkpoint, to the deployed network that a file holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import nn

from ..errors import ConfigError
from ..models import MODEL_TABLE, create_model, near_models
from ..openmm.config.arguments import type_path
from ..openmm.config.loading import load_config
from ..openmm.config.preparing import is_reid
from ..openmm.detector_graph import DetectorGraph
from ..openmm.trained import (
    build_classifier,
    build_detector,
    build_reid,
    find_labels,
    load_trained,
    test_dataset,
)
from ..runtime import DeployedNetwork, Preprocessing
from ..runtime.exported_detector import METADATA_KEY, AboutDetector
from ..runtime.network import CLASSES_KEY, FEATURES_KEY
from .extractors import describe_features
from .preprocessing import find_placing, find_preprocessing

PARTS = ('whole', 'backbone', 'neck', 'detector')


class LoadedNetwork(NamedTuple):
    """A network to write to a file, and what it comes from.

    Attributes:
        network: Deployed, with the weights of the checkpoint.
        cfg: The config; None of a name.
        model: The whole model of that config, with its data preprocessor.
    """

    network: DeployedNetwork
    cfg: Config | None = None
    model: nn.Module | None = None


def load_network(
    model: str,
    checkpoint: str | Path | None = None,
    part: str | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
    size: tuple[int, int] | None = None,
    preprocess: bool = False,
) -> LoadedNetwork:
    """Build a network, load its weights and bring it into its deployed form.

    Args:
        model: One of :func:`effvit_mm.list_models`, or a config file: a classifier, a re-ID model
            or a detector.
        checkpoint: Weights; random ones where it is None.
        part: ``'whole'`` (logits, or a re-ID feature behind the BNNeck), ``'backbone'`` (its maps),
            ``'neck'`` (the backbone and the neck of a detector) or ``'detector'`` (all of one:
            boxes, scores, labels, masks). None is the whole, and of detectors the neck.
        overrides: ``key=value`` pairs for the config.
        trust: Read checkpoints that hold more than weights.
        size: Height and width of the images, in pixels; a whole detector is for this size alone.
            None: the config's.
        preprocess: Let the network take pixels, uint8 and BGR, and normalise them itself; of a
            config for classification or re-ID, also know how its test pipeline makes them of
            photographs.

    Raises:
        ConfigError: The model has no such part, or there is no such model.
        CheckpointError: The weights do not fit.
    """
    if part is not None and part not in PARTS:
        raise ConfigError(f'--part {part}: allowed are {", ".join(PARTS)}')
    if model in MODEL_TABLE:
        if overrides:
            raise ConfigError(f'--cfg-options: {model} is the name of a model, not a config')
        return _named(model, checkpoint, part or 'whole', trust, preprocess)
    if not Path(model).suffix:
        near = near_models(model)
        raise ConfigError(
            f'{model} is neither a config file nor one of effvit_mm.list_models(){near}'
        )
    return _configured(model, checkpoint, part, overrides, trust, size, preprocess)


def _named(
    name: str, checkpoint: str | Path | None, part: str, trust: bool, preprocess: bool
) -> LoadedNetwork:
    """A model of the table."""
    if part in ('neck', 'detector'):
        raise ConfigError(f"--part {part}: {name} has none; a detector's config does")
    maps = part == 'backbone'
    network = create_model(name, None, features_only=maps, checkpoint=checkpoint, trust=trust)
    outputs = 'map' if part == 'backbone' else 'logits'
    known = Preprocessing() if preprocess else None
    described = name, outputs, published_size(name)
    return LoadedNetwork(DeployedNetwork(network, *described, preprocessing=known))


def published_size(name: str) -> tuple[int, int]:
    """Height and width in pixels that a model of the table was published for."""
    family, preset = MODEL_TABLE[name]
    side = family.backbone.arch_settings[preset['arch']].get('img_size', 224)
    return side, side


def _configured(
    config: str,
    checkpoint: str | Path | None,
    part: str | None,
    overrides: Sequence[str],
    trust: bool,
    size: tuple[int, int] | None,
    preprocess: bool,
) -> LoadedNetwork:
    """A model of a config file."""
    cfg = load_config(config, overrides)
    if is_reid(cfg):
        model, whole = build_reid(cfg, config), 'feature'
    elif cfg.get('default_scope') == 'mmdet':
        model, whole = build_detector(cfg, config, checkpoint, trust), None
    else:
        model, whole = build_classifier(cfg, config, checkpoint, trust), 'logits'
    part = part or ('neck' if whole is None else 'whole')
    if part == 'whole' and whole is None:
        raise ConfigError(f'--part whole: {config} is a detector: detector, neck or backbone')
    if part in ('neck', 'detector') and whole is not None:
        raise ConfigError(f'--part {part}: {config} is no detector')
    meta = {} if checkpoint is None else load_trained(model, checkpoint, trust)
    if part == 'backbone':
        module, outputs, method = model.backbone, 'map', 'forward'
    elif part == 'neck':
        module, outputs, method = model, 'level', 'extract_feat'
    elif part == 'detector':
        module = DetectorGraph(model, needed_size(size, image_size(cfg), config))
        outputs, method = module.output_names, 'forward'
    else:
        module, outputs, method = model, whole, 'forward'
    normalisation, preprocessing, about = _normalisation(model), None, {}
    if part == 'detector':
        placing = find_placing(cfg, model, normalisation)
        classes = find_labels(cfg, meta, model).classes
        about[METADATA_KEY] = AboutDetector(classes, placing).to_json()
    elif (part, whole) == ('whole', 'logits'):
        about[CLASSES_KEY] = json.dumps(find_labels(cfg, meta, model).classes)
    elif (part, whole) == ('whole', 'feature'):
        about[FEATURES_KEY] = describe_features(model, cfg)
    if preprocess:
        detects = whole is None
        preprocessing = (
            Preprocessing() if detects else find_preprocessing(cfg, model, normalisation)
        )
    size = size or image_size(cfg)
    described = Path(config).stem, outputs, size, normalisation, method, preprocessing, about
    return LoadedNetwork(DeployedNetwork(module, *described), cfg, model)


def needed_size(
    given: tuple[int, int] | None, known: tuple[int, int] | None, name: str
) -> tuple[int, int]:
    """Height and width that were given, else those that are known of a model.

    Raises:
        ConfigError: There is neither.
    """
    size = given or known
    if size is None:
        raise ConfigError(f"--shape H W is needed: {name} does not say its images' size")
    return size


def _normalisation(model: nn.Module) -> Mapping[str, Any]:
    """Mean and deviation of a model's preprocessor."""
    preprocessor = model.data_preprocessor
    mean, std = (
        [float(v) for v in torch.as_tensor(getattr(preprocessor, key, default)).flatten()]
        for key, default in (('mean', (0.0,) * 3), ('std', (1.0,) * 3))
    )
    # mmpretrain's name, and mmengine's with mmdet's
    rgb = any(getattr(preprocessor, name, False) for name in ('to_rgb', '_channel_conversion'))
    return {'mean': mean, 'std': std, 'order': 'RGB' if rgb else 'BGR'}


def image_size(cfg: Mapping) -> tuple[int, int] | None:
    """Height and width of a config's test images; None where they are not all of one size."""
    for step in reversed(test_dataset(cfg).get('pipeline') or []):
        kind = type_path(step.get('type')).rpartition('.')[2]
        side = step.get({'CenterCrop': 'crop_size', 'Resize': 'scale'}.get(kind, ''))
        if isinstance(side, int):
            return side, side
        if isinstance(side, list | tuple) and len(side) == 2 and not step.get('keep_ratio'):
            width, height = side
            return height, width
    return None
