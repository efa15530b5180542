"""Detection sets of ours that stand for mmdet's, so that check, loader and evaluator agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import mmengine.registry as root
from mmengine.config import Config
from mmengine.registry import DefaultScope

from .arguments import dataset_nodes, has_type, mappings_of, node_class, type_path
from .data_root import LOADERS

SETS = ('CocoDataset', 'VOCDataset', 'XMLDataset')


def use_own_sets(cfg: Config) -> None:
    """Read annotations by one reader in all loaders of a config, with the classes of training.

    A ``CocoFolder`` or a ``CustomDataset`` of validation or test that names no classes gets those
    of the training set, whose order is that of the model's outputs.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for loader in mappings_of([cfg.get(key) for key in LOADERS]):
            take_own_sets(loader)
    for kind, class_source in CLASS_SOURCES.items():
        nodes = {key: list(_sets(cfg.get(key), kind)) for key in LOADERS}
        source = next(map(class_source, nodes['train_dataloader']), {})
        for node in (node for key in LOADERS[1:] for node in nodes[key]):
            if source and not class_source(node, alone=False):
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


def _sets(loader: object, kind: str) -> Iterator[Mapping]:
    if isinstance(loader, Mapping):
        for _, node in dataset_nodes(loader.get('dataset'), ''):
            if has_type(node, kind):
                yield node


def _class_source(node: Mapping, alone: bool = True) -> dict:
    """Where a set has its classes from, as arguments of another; ``alone``: its own files count."""
    if (node.get('metainfo') or {}).get('classes') is not None:
        return {'metainfo': node['metainfo']}
    file = node.get('classes_from') or (node.get('ann_file') if alone else None)
    if not file or not isinstance(file, str):  # of another kind: refused by its key
        return {}
    file = os.path.abspath(os.path.join(node.get('data_root') or '', file))
    return {'classes_from': file} if os.path.isfile(file) or not alone else {}


def _folder_source(node: Mapping, alone: bool = True) -> dict:
    """The same of class folders; a list file has no names."""
    for key in ('classes', 'metainfo'):
        value = node.get(key)
        if value and (key == 'classes' or value.get('classes')):
            return {key: value}
    if folder := node.get('classes_from'):
        return {'classes_from': folder}
    prefix = node.get('data_prefix') or ''
    prefix = prefix.get('img_path', '') if isinstance(prefix, Mapping) else prefix
    folder = os.path.abspath(os.path.join(node.get('data_root') or '', prefix))
    ours = type_path(node['type']).startswith('effvit_mm.')
    named = ours and not node.get('ann_file') and node.get('with_label', True)
    return {'classes_from': folder} if alone and named and os.path.isdir(folder) else {}


CLASS_SOURCES = {'CocoFolder': _class_source, 'CustomDataset': _folder_source}
