"""Checks of a built data set against the model, before the first epoch."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree

import numpy as np
from mmengine.fileio import list_from_file
from torch import nn
from torch.utils.data import Dataset

from ...errors import DataError
from ...utils.distributed import on_main_process

MAX_NAMED = 5


def head_classes(model: nn.Module) -> int | None:
    """How many classes a classifier's or detector's head tells apart, where it says so."""
    keys = class_keys(model)
    return next(iter(keys.values()), None)


def class_keys(model: nn.Module) -> dict[str, int]:
    """The config keys that hold the number of classes, with their values."""
    model = getattr(model, 'module', model)  # test-time augmentation wraps the model
    roi_head = getattr(model, 'roi_head', None)
    heads = {
        'model': model if type(model).__name__ == 'ReIDModel' else None,
        'model.head': getattr(model, 'head', None),
        'model.bbox_head': getattr(model, 'bbox_head', None),
        'model.roi_head.bbox_head': getattr(roi_head, 'bbox_head', None),
        'model.roi_head.mask_head': getattr(roi_head, 'mask_head', None),
        'model.mask_head': getattr(model, 'mask_head', None),
    }
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

    Raises:
        DataError: Empty; another number of classes; labels out of range; an empty class.
    """
    if len(dataset) == 0:
        hint = ': no image has an object of its classes' if hasattr(dataset, 'filter_cfg') else ''
        raise DataError(f'{key}.dataset ({type(dataset).__name__}) is empty{hint}')
    while not hasattr(dataset, 'get_gt_labels') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    meta = getattr(dataset, 'metainfo', None) or {}
    if isinstance(meta, list):  # mmdet's ConcatDataset of sets that differ in it
        meta = meta[0]
    names = meta.get('classes')
    keys, count = class_keys(model), head_classes(model)
    wrong = [path for path, number in keys.items() if names is not None and number != len(names)]
    if wrong:
        settings = ' '.join(f'{path}={len(names)}' for path in wrong)
        head = wrong[0].removesuffix('.num_classes')
        head = 'the head of the model' if head == 'model.head' else head
        what = 'persons' if head == 'model' else 'classes'
        raise DataError(
            f'{key}.dataset has {len(names)} {what} ({_some(names)}), but {head} '
            f'has num_classes={keys[wrong[0]]}; set {settings}'
        )
    if not hasattr(dataset, 'get_gt_labels'):
        return
    labels = _single_labels(dataset)
    if labels is None:
        return
    total = count or (len(names) if names else None)
    if total is None:
        return
    _check_range(labels, total, dataset, key)
    if (
        names is not None
        and not allow_empty_classes
        and not getattr(dataset, 'allow_empty_classes', False)
    ):
        _check_empty(labels, names, dataset, key)


def _single_labels(dataset) -> np.ndarray | None:
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
            f'{key}.dataset: no image of {len(empty)} of {len(names)} classes ({_some(empty)}) in '
            f'{folder or "its files"}; remove it, or set data_checks.allow_empty_classes=True'
        )


def _some(names: Sequence[str]) -> str:
    more = ', ...' if len(names) > MAX_NAMED else ''
    return ', '.join(map(str, names[:MAX_NAMED])) + more


def check_voc_sets(dataset: Dataset, key: str, options: Mapping) -> None:
    """Raise where files of VOC-style sets have objects of classes that the config does not know.

    mmdet leaves such objects out without a word, all of them where one's own classes were not
    given; ``data_checks=dict(allow_unknown_categories=True)`` permits it.

    Args:
        dataset: As built; wrappers are looked into.
        key: The config key of the loader, for messages.
        options: ``data_checks`` of the config.

    Raises:
        DataError: Naming a file, the classes, and how many objects there are.
    """
    if 'mmdet.datasets' not in sys.modules or options.get('allow_unknown_categories'):
        return
    from mmdet.datasets import XMLDataset

    for part in _parts(dataset):
        if isinstance(part, XMLDataset) and not part.backend_args:
            on_main_process(lambda part=part: _check_voc_classes(part, key))


def _parts(dataset: Dataset) -> Iterator[Dataset]:
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for part in inner:
        if part is not None:
            yield from _parts(part)
    yield dataset


def _check_voc_classes(dataset: Dataset, key: str) -> None:
    known = dataset.metainfo['classes']
    first = ''
    unknown: Counter = Counter()
    for number in list_from_file(dataset.ann_file):
        path = os.path.join(dataset.sub_data_root, dataset.ann_subdir, f'{number}.xml')
        for node in ElementTree.parse(path).getroot().iterfind('object/name'):
            if node.text not in known:
                unknown[node.text] += 1
                first = first or path
    if unknown:
        names = _some(list(unknown))
        raise DataError(
            f'{key}.dataset: objects of classes that the config does not know: {unknown.total()} '
            f'({names}; the first in {first}); it knows {_some(known)}. '
            'Give all in metainfo.classes, or, to leave such boxes out, set '
            'data_checks.allow_unknown_categories=True'
        )
