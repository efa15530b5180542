"""Heads whose config leaves the number of classes open (None): it is a data set's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import mmengine.registry as root

from ...errors import ConfigError
from ..config.arguments import mappings_of
from ..datasets.coco_format import read_classes
from ..datasets.voc_format import VocSource
from .detection import detection_sources
from .labels import HEADS


def open_heads(model: Mapping[str, Any]) -> dict[str, MutableMapping]:
    """The heads of a model's config that have ``num_classes=None``, by their config keys."""
    return {key: head for key, head in _heads(model) if head['num_classes'] is None}


def wrong_heads(model: Mapping[str, Any], classes: int) -> dict[str, int]:
    """Keys of a model's config that hold another number of classes, with that number."""
    return {
        f'{key}.num_classes': head['num_classes']
        for key, head in _heads(model)
        if head['num_classes'] not in (None, classes)
    }


def _heads(model: Mapping[str, Any]) -> Iterator[tuple[str, MutableMapping]]:
    """``(config key, dict)`` of the heads that have a number of classes, be it open."""
    key = 'model'
    if 'module' in model:  # test-time augmentation wraps the model
        key, model = 'model.module', model['module']
    for part in HEADS:
        node: Any = model
        for name in part.split('.'):
            node = node.get(name) if isinstance(node, Mapping) else None
        stages = isinstance(node, list | tuple)  # of a cascade
        for index, head in enumerate(mappings_of(node)):
            if 'num_classes' in head:
                yield f'{key}.{part}.{index}' if stages else f'{key}.{part}', head


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
        return len(read_classes(source.ann_file))
    dataset = root.DATASETS.build(node) if isinstance(node, Mapping) else node
    meta = getattr(dataset, 'metainfo', None) or {}
    classes = (meta[0] if isinstance(meta, list) else meta).get('classes')
    if not classes:
        raise ConfigError(
            f'num_classes is left open, but {key}.dataset ({type(dataset).__name__}) names no '
            'classes: give the number'
        )
    return len(classes)
