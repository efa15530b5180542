"""``--cfg-options data_root=/path`` for all data loaders of a config at once."""

from __future__ import annotations

from collections.abc import Mapping

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def spread_data_root(cfg: dict, before: str | None) -> None:
    """Give a changed top-level ``data_root`` to the data sets that were written with the old one.

    A config file's variable is used up when the file is read, so changing it afterwards would have
    no effect, and tell nobody. A data set that was given a root of its own keeps it.

    Args:
        cfg: The config after the overrides; changed in place.
        before: Its ``data_root`` as the file had it.
    """
    after = cfg.get('data_root')
    if before is None or after is None or after == before:
        return
    for key in LOADERS:
        if isinstance(cfg.get(key), Mapping):
            _replace(cfg[key].get('dataset'), before, after)


def _replace(dataset: object, before: str, after: str) -> None:
    if isinstance(dataset, list | tuple):  # the parts of a ConcatDataset
        for part in dataset:
            _replace(part, before, after)
    elif isinstance(dataset, Mapping):
        if dataset.get('data_root') == before:
            dataset['data_root'] = after
        for key in ('dataset', 'datasets'):  # wrappers
            _replace(dataset.get(key), before, after)
