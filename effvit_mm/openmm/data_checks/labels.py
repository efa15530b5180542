"""Checks of a built data set against the model, before the first epoch."""

from __future__ import annotations

import copy
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import mmengine.registry as root
import numpy as np
from mmengine.fileio import list_from_file
from torch import nn

from ...errors import DataError
from ...utils.distributed import on_main_process
from ...utils.text import shorten
from ..config.arguments import dataset_nodes, node_class
from .class_names import class_names

# Of a model, whose number of classes is the data set's.
HEADS = ('head', 'bbox_head', 'roi_head.bbox_head', 'roi_head.mask_head', 'mask_head')


def head_classes(model: nn.Module) -> int | None:
    """How many classes a classifier's or detector's head tells apart, where it says so."""
    return next(iter(class_keys(model).values()), None)


def class_keys(model: nn.Module) -> dict[str, int]:
    """The config keys that hold the number of classes, with their values."""
    from ..reid.model import ReIDModel

    model = getattr(model, 'module', model)  # test-time augmentation wraps the model
    roi_head = getattr(model, 'roi_head', None)
    heads = {'model': model if isinstance(model, ReIDModel) else None}
    for part in HEADS:
        owner, _, name = part.rpartition('.')
        heads[f'model.{part}'] = getattr(roi_head if owner else model, name, None)
    found = {}
    for path, head in heads.items():
        stages = isinstance(head, nn.ModuleList)  # of a cascade
        for index, part in enumerate(head if stages else [head]):
            classes = getattr(part, 'num_classes', None)
            if isinstance(classes, int):
                found[f'{path}.{index}.num_classes' if stages else f'{path}.num_classes'] = classes
    return found


def check_dataset(dataset, model: nn.Module, key: str, allow_empty_classes: bool) -> None:
    """Raise where a data set cannot be what the model is meant to be trained or tested on.

    Args:
        dataset: As built; wrappers without labels of their own are looked into.
        model: Whose head's number of classes must be the data set's.
        key: The config key of the loader, for messages.
        allow_empty_classes: A class without a single image passes.
    """
    if len(dataset) == 0:
        hint = ': no image has an object of its classes' if hasattr(dataset, 'filter_cfg') else ''
        raise DataError(f'{key}.dataset ({type(dataset).__name__}) is empty{hint}')
    while not hasattr(dataset, 'get_gt_labels') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    names = class_names(dataset)
    keys = class_keys(model)
    count = next(iter(keys.values()), None)
    wrong = [path for path, number in keys.items() if names is not None and number != len(names)]
    if wrong:
        settings = ' '.join(f'{path}={len(names)}' for path in wrong)
        head = wrong[0].removesuffix('.num_classes')
        head = 'the head of the model' if head == 'model.head' else head
        what = 'persons' if head == 'model' else 'classes'
        raise DataError(
            f'{key}.dataset has {len(names)} {what} ({shorten(names)}), but {head} '
            f'has num_classes={keys[wrong[0]]}; set {settings}'
        )
    labels, total = _single_labels(dataset), count or len(names or ())
    if labels is None or not total:
        return
    _check_range(labels, total, dataset, key)
    allowed = allow_empty_classes or getattr(dataset, 'allow_empty_classes', False)
    if names is not None and not allowed:
        _check_empty(labels, names, dataset, key)


def _single_labels(dataset) -> np.ndarray | None:
    """The label of each sample; None where there are none, or several a sample."""
    if not hasattr(dataset, 'get_gt_labels'):
        return None
    try:
        labels = np.asarray(dataset.get_gt_labels())
    except KeyError:  # a data set without labels: to predict on
        return None
    return labels if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) else None


def _check_range(labels: np.ndarray, total: int, dataset, key: str) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= total))
    if len(wrong):
        index = int(wrong[0])
        file = dataset.get_data_info(index).get('img_path', f'sample {index}')
        raise DataError(
            f'{key}.dataset: label {labels[index]} of {file} is out of range; with '
            f'num_classes={total} labels go from 0 to {total - 1} ({len(wrong)} such samples)'
        )


def _check_empty(labels: np.ndarray, names: Sequence[str], dataset, key: str) -> None:
    counts = np.bincount(labels, minlength=len(names))
    empty = [name for name, number in zip(names, counts, strict=False) if number == 0]
    if empty:
        folder = getattr(dataset, 'img_prefix', '') or getattr(dataset, 'data_root', '')
        raise DataError(
            f'{key}.dataset: no image of {len(empty)} of {len(names)} classes ({shorten(empty)}) '
            f'in {folder or "its files"}; remove it, or set data_checks.allow_empty_classes=True'
        )


def check_voc_sets(loader: Mapping, key: str, options: Mapping) -> None:
    """Raise where files of VOC-style sets are broken or have objects of unknown classes.

    mmdet names no file that it cannot parse, and leaves out objects of other classes than the
    config's without a word, all of them where one's own classes were not given;
    ``data_checks=dict(allow_unknown_categories=True)`` permits that. The main process reads.

    Args:
        loader: A loader's part of the config, whose key is ``key``.
        options: ``data_checks`` of the config.
    """
    if 'mmdet.datasets' not in sys.modules:
        return
    from mmdet.datasets import XMLDataset

    for path, node in dataset_nodes(loader.get('dataset'), f'{key}.dataset'):
        cls = node_class(root.DATASETS, node)
        if cls is not None and issubclass(cls, XMLDataset) and not node.get('backend_args'):
            on_main_process(lambda node=node, path=path: _check_voc(node, path, options))


def _check_voc(node: Mapping, path: str, options: Mapping) -> None:
    dataset = root.DATASETS.build({**copy.deepcopy(node), 'lazy_init': True})
    classes = dataset.metainfo.get('classes') or ()
    first = ''
    unknown: Counter = Counter()
    for number in list_from_file(dataset.ann_file):
        file = os.path.join(dataset.sub_data_root, dataset.ann_subdir, f'{number}.xml')
        for name in _object_names(file):
            if name not in classes:
                unknown[name] += 1
                first = first or file
    if unknown and not options.get('allow_unknown_categories'):
        raise DataError(
            f'{path}: objects of classes that the config does not know: {unknown.total()} '
            f'({shorten(list(unknown))}; the first in {first}); it knows {shorten(classes)}. '
            'Give all in metainfo.classes, or, to leave such boxes out, set '
            'data_checks.allow_unknown_categories=True'
        )


def _object_names(file: str) -> list[str]:
    """Names of a VOC file's objects, each of which must have a box."""
    try:
        objects = ElementTree.parse(file).getroot().findall('object')
        for item in objects:
            for side in ('xmin', 'ymin', 'xmax', 'ymax'):
                float(item.findtext(f'bndbox/{side}') or 'nothing')
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f'annotation file {file}: {error}') from error
    return [str(item.findtext('name')) for item in objects]
