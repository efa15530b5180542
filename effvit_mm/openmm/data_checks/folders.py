"""Sets of class folders and of persons: read as a training reads them, and told what was found."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import mmengine.registry as root

from ...errors import DataError, UserError
from ...utils.text import shorten
from ..config.arguments import dataset_nodes, has_type, node_class
from ..datasets.scan import SkipCorrupt, find_corrupt
from .detection import source_kind
from .labels import single_labels
from .matches import find_match


class FolderReport(NamedTuple):
    """What was found in a set.

    Attributes:
        line: In words.
        breaks: Whether a training stops.
        files: Its images.
        classes: How many it names.
        single: Each image has one label.
        error: What was raised where the set cannot be read.
    """

    line: str
    breaks: bool
    files: tuple[str, ...] = ()
    classes: int = 0
    single: bool = False
    error: DataError | None = None


def check_folders(
    loader: Mapping, path: str, read_images: bool, allow_empty_classes: bool
) -> Iterator[FolderReport]:
    """Look at each such set in a loader, and at its sampler of persons.

    Args:
        loader: A loader's part of the config, whose key is ``path``.
        read_images: Decode every image.
        allow_empty_classes: A class without a single image passes.
    """
    reports = []
    for key, part in dataset_nodes(loader.get('dataset'), f'{path}.dataset'):
        cls = node_class(root.DATASETS, part)
        # Those with annotation files have a check of their own.
        if cls is not None and issubclass(cls, SkipCorrupt) and source_kind(cls) is None:
            reports.append(_check(part, key, read_images, allow_empty_classes))
    yield from reports
    if reports and not any(report.breaks for report in reports):
        yield from _check_sampler(loader, path)


def _check(node: Mapping, key: str, read_images: bool, allow_empty: bool) -> FolderReport:
    try:
        dataset = root.DATASETS.build(copy.deepcopy(dict(node)))
        if getattr(dataset, 'num_query', 0):
            find_match(dataset, key.removesuffix('.dataset'))
    except DataError as error:
        text = str(error)
        return FolderReport(text if text.startswith(key) else f'{key}: {text}', True, error=error)
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
    single = single_labels(dataset) is not None
    line = f'{key}: {"; ".join(notes)}'
    return FolderReport(line, breaks, tuple(paths), len(classes), single)


def _check_sampler(loader: Mapping, path: str) -> Iterator[FolderReport]:
    """What a sampler of persons would refuse; what it tells goes to the log."""
    if not has_type(loader.get('sampler'), 'PKSampler'):
        return
    try:
        dataset = root.DATASETS.build(copy.deepcopy(dict(loader['dataset'])))
        root.DATA_SAMPLERS.build({**loader['sampler'], 'dataset': dataset})
    except UserError as error:
        yield FolderReport(f'{path}: {error}', True)
