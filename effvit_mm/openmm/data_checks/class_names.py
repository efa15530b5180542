"""Names of classes in checkpoints and data sets: they say what a label means, not its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import CheckpointError
from ...utils.text import shorten

PERMISSION = 'allow_other_class_names'  # of data_checks


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """What a data set calls its classes, in the order of their labels; None where it does not."""
    meta = getattr(dataset, 'metainfo', None) or {}
    if isinstance(meta, list):  # mmdet's ConcatDataset of sets that differ in it
        meta = meta[0]
    return _names(meta)


def trained_names(content: Mapping) -> tuple[str, ...] | None:
    """The classes that a checkpoint was trained for; None where it does not say."""
    meta = content.get('meta')
    if not isinstance(meta, Mapping):
        return None
    described = meta.get('dataset_meta')  # mmengine's; the runners before it wrote CLASSES
    return _names(described if isinstance(described, Mapping) else meta)


def _names(meta: Mapping) -> tuple[str, ...] | None:
    names = {str(key).lower(): value for key, value in meta.items()}.get('classes')
    return tuple(map(str, names)) if isinstance(names, list | tuple) and names else None


def name_difference(theirs: Sequence[str] | None, ours: Sequence[str] | None) -> str:
    """How the names of as many classes differ; nothing where they do not, or are not known.

    Args:
        theirs: A checkpoint's.
        ours: A data set's.
    """
    if theirs is None or ours is None or len(theirs) != len(ours) or tuple(theirs) == tuple(ours):
        return ''
    label = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    reordered = sorted(theirs) == sorted(ours)
    return (
        f'{"the same classes in another order" if reordered else "other classes"} '
        f'({shorten(theirs)}) than {shorten(ours)}: label {label} was {theirs[label]!r} and is '
        f'{ours[label]!r}'
    )


def check_class_names(content: Mapping, dataset: Any, key: str, source: str) -> None:
    """Raise where a checkpoint's labels mean other classes than a data set's.

    Args:
        content: Of the checkpoint.
        dataset: As built.
        key: The config key of its loader, for messages.
        source: How messages call the checkpoint.

    Raises:
        CheckpointError: Other names, or another order of them.
    """
    if difference := name_difference(trained_names(content), class_names(dataset)):
        raise CheckpointError(
            f'{source} was trained for {difference} in {key}.dataset; give the data set the '
            "checkpoint's classes in its order or, where other names mean the same, set "
            f'data_checks.{PERMISSION}=True'
        )
