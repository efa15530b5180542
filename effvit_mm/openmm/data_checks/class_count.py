"""Heads whose config leaves the number of classes open (None): it is a data set's."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import mmengine.registry as root

from ...errors import ConfigError
from ..config.arguments import mappings_of
from ..datasets.coco_format import category_names, read_coco
from ..datasets.voc_format import VocSource
from .detection import detection_sources
from .labels import HEADS


def open_heads(model: Mapping[str, Any]) -> dict[str, MutableMapping]:
    """The heads of a model's config that have ``num_classes=None``, by their config keys."""
    key, model = (
        ('model.module', model['module']) if 'module' in model else ('model', model)
    )  # test-time augmentation wraps the model
    found = {}
    for part in HEADS:
        node: Any = model
        for name in part.split('.'):
            node = node.get(name) if isinstance(node, Mapping) else None
        stages = isinstance(node, list | tuple)  # of a cascade
        for index, head in enumerate(mappings_of(node)):
            if 'num_classes' in head and head['num_classes'] is None:
                found[f'{key}.{part}.{index}' if stages else f'{key}.{part}'] = head
    return found


def close_heads(model: Mapping[str, Any], classes: int) -> None:
    """Give a model's open heads their number of classes."""
    for head in open_heads(model).values():
        head['num_classes'] = classes


def count_classes(loader: Mapping[str, Any], key: str) -> int:
    """How many classes the data set of a loader's config has.

    Of COCO-style sets the annotation file is read, others are built.

    Args:
        loader: A loader's part of the config, whose key is ``key``.

    Raises:
        DataError: The annotation file cannot be read.
        ConfigError: The data set does not say its classes.
    """
    node = loader['dataset']
    for _, source in detection_sources(node, f'{key}.dataset'):
        if source.classes is not None:
            return len(source.classes)
        if isinstance(source, VocSource):
            break
        return len(category_names(read_coco(source.ann_file), source.ann_file))
    dataset = root.DATASETS.build(node) if isinstance(node, Mapping) else node
    meta = getattr(dataset, 'metainfo', None) or {}
    classes = (meta[0] if isinstance(meta, list) else meta).get('classes')
    if not classes:
        raise ConfigError(
            f'num_classes is left open, but {key}.dataset ({type(dataset).__name__}) names no '
            'classes: give the number'
        )
    return len(classes)
