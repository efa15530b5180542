"""Detection sets of ours that stand for mmdet's, so that check, loader and evaluator agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import mmengine.registry as root
from mmengine.config import Config
from mmengine.registry import DefaultScope

from .arguments import dataset_nodes, has_type, mappings_of, node_class
from .data_root import LOADERS

SETS = ('CocoDataset', 'VOCDataset', 'XMLDataset')


def use_own_sets(cfg: Config) -> None:
    """Read annotations by one reader in all loaders of a config, with the classes of training.

    A ``CocoFolder`` of validation or test that names no classes gets those of the training set,
    whose order is that of the model's outputs.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for loader in mappings_of([cfg.get(key) for key in LOADERS]):
            take_own_sets(loader)
    folders = {key: list(_folders(cfg.get(key))) for key in LOADERS}
    source = next(map(_class_source, folders['train_dataloader']), {})
    for node in (node for key in LOADERS[1:] for node in folders[key]):
        if source and not _class_source(node, alone=False):
            node.update(source)


def take_own_sets(loader: Mapping) -> None:
    """Ours for mmdet's in the current scope; sets in a remote store are left as they are."""
    for _, node in dataset_nodes(loader.get('dataset'), ''):
        remote = (
            '://' in f'{node.get("data_root")} {node.get("ann_file")} {node.get("data_prefix")}'
        )
        if node.get('backend_args') or remote:
            continue
        cls = node_class(root.DATASETS, node)
        if cls is not None and cls.__module__.startswith('mmdet.') and cls.__name__ in SETS:
            node['type'] = f'effvit_mm.{cls.__name__}'


def _folders(loader: object) -> Iterator[Mapping]:
    if isinstance(loader, Mapping):
        for _, node in dataset_nodes(loader.get('dataset'), ''):
            if has_type(node, 'CocoFolder'):
                yield node


def _class_source(node: Mapping, alone: bool = True) -> dict:
    """Where a set has its classes from, as arguments of another; ``alone``: its own file counts."""
    if (node.get('metainfo') or {}).get('classes') is not None:
        return {'metainfo': node['metainfo']}
    file = node.get('classes_from') or (node.get('ann_file') if alone else None)
    file = os.path.abspath(os.path.join(node.get('data_root') or '', file)) if file else ''
    return {'classes_from': file} if os.path.isfile(file) or (file and not alone) else {}
