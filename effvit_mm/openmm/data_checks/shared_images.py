"""Images that are trained on and judged by: no error, but figures say less than they seem to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from .image_sizes import plain_sets


def describe_shared(train: Iterable[str], judged: Iterable[str], key: str) -> str:
    """A line about the files that both have; nothing where there are none.

    Args:
        train: Image files of the training.
        judged: Those of another loader, whose config key is ``key``.
    """
    others = dict.fromkeys(map(os.path.abspath, judged))
    shared = others.keys() & set(map(os.path.abspath, train))
    if not shared:
        return ''
    first = next(path for path in others if path in shared)
    return (
        f'{len(shared)} of {len(others)} images of {key} are in train_dataloader too, the first is '
        f'{first}: its figures are not those of unseen images; take them out of one of the two'
    )


def image_files(dataset: Any) -> Iterator[str]:
    """The files of a data set as built; wrappers are looked into."""
    for part in plain_sets(dataset):
        for index in range(len(part)):
            if path := part.get_data_info(index).get('img_path'):
                yield path
