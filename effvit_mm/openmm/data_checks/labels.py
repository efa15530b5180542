"""Checks of a built data set against the model, before the first epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from ...errors import DataError
from ...utils.text import shorten
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
        otherwise = (
            ''
            if key.startswith('train')
            else (
                f' if the model was trained on these {what}; else give the set those of training, '
                f'in their order ({key}.dataset.metainfo.classes)'
            )
        )
        raise DataError(
            f'{key}.dataset has {len(names)} {what} ({shorten(names)}), but {head} '
            f'has num_classes={keys[wrong[0]]}; set {settings}{otherwise}'
        )
    labels, total = single_labels(dataset), count or len(names or ())
    if labels is None or not total:
        return
    _check_range(labels, total, dataset, key)
    allowed = allow_empty_classes or getattr(dataset, 'allow_empty_classes', False)
    if names is not None and not allowed:
        _check_empty(labels, names, dataset, key)


def single_labels(dataset) -> np.ndarray | None:
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
