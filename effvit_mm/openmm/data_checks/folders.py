"""Sets of class folders and of persons: read as a training reads them, and told what was found."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import mmengine.registry as root

from ...errors import DataError
from ...utils.text import shorten
from ..config.arguments import dataset_nodes, node_class
from ..datasets.scan import SkipCorrupt, find_corrupt
from .detection import source_kind


class FolderReport(NamedTuple):
    """What was found in a set.

    Attributes:
        line: In words.
        breaks: Whether a training stops.
        files: Its images.
    """

    line: str
    breaks: bool
    files: tuple[str, ...] = ()


def check_folders(
    node: object, path: str, read_images: bool, allow_empty_classes: bool
) -> Iterator[FolderReport]:
    """Look at each such set in a part of a config.

    Args:
        node: A data set of the config, or a wrapper with some in it, whose key is ``path``.
        read_images: Decode every image.
        allow_empty_classes: A class without a single image passes.
    """
    for key, part in dataset_nodes(node, path):
        cls = node_class(root.DATASETS, part)
        # Those with annotation files have a check of their own.
        if cls is not None and issubclass(cls, SkipCorrupt) and source_kind(cls) is None:
            yield _check(part, key, read_images, allow_empty_classes)


def _check(node: Mapping, key: str, read_images: bool, allow_empty: bool) -> FolderReport:
    try:
        dataset = root.DATASETS.build(copy.deepcopy(dict(node)))
    except DataError as error:
        return FolderReport(f'{key}: {error}', True)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    labels = {info.get('gt_label') for info in infos}
    classes = dataset.metainfo.get('classes', ())
    empty = [name for label, name in enumerate(classes) if label not in labels]
    paths = [info['img_path'] for info in infos if 'img_path' in info]
    faults = list(find_corrupt(paths, key).values()) if read_images else []
    notes = [f'{len(infos)} images', *([f'{len(classes)} classes or persons'] if classes else [])]
    notes += [f'no image of {shorten(empty)}'] if empty else []
    notes += faults or (['all images can be read'] if read_images else [])
    in_training = key.startswith('train_') and not allow_empty
    breaks = bool(faults or (empty and in_training))
    return FolderReport(f'{key}: {"; ".join(notes)}', breaks, tuple(paths))
