"""Readers of ours that stand for OpenMMLab's, so that one rule holds everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import mmengine.registry as root
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import DefaultScope

from .arguments import dataset_nodes, mappings_of, node_class
from .data_root import LOADERS

# mmpretrain's sets of folders, of which ours read the same files as all else does.
FOLDERS = ('CustomDataset', 'ImageNet')
# Arguments of mmcv's LoadImageFromFile with which it does what LoadImage does.
PLAIN = {
    'to_float32': (True, False),
    'color_type': ('color',),
    'imdecode_backend': ('cv2',),
    'ignore_empty': (False,),
    'backend_args': (None,),
}


def use_own_readers(cfg: Config) -> None:
    """Let images be found and decoded by one rule: in training, validation, test and inference.

    Sets in a remote store are left as they are, and images that are to be decoded in another way.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for loader in mappings_of([cfg.get(key) for key in LOADERS]):
            for _, node in dataset_nodes(loader.get('dataset'), ''):
                if '://' in f'{node.get("data_root")} {node.get("data_prefix")}':
                    continue
                _use_own_folders(node)
                _use_own_decoder(node.get('pipeline'))
        _use_own_decoder(cfg.get('tta_pipeline'))


def _use_own_folders(node: Mapping) -> None:
    cls = node_class(root.DATASETS, node)
    if cls is not None and cls.__module__.startswith('mmpretrain.') and cls.__name__ in FOLDERS:
        node['type'] = f'effvit_mm.{cls.__name__}'


def _use_own_decoder(pipeline: object) -> None:
    for step in mappings_of(pipeline):
        plain = all(value in PLAIN.get(key, ()) for key, value in step.items() if key != 'type')
        if plain and node_class(root.TRANSFORMS, step) is LoadImageFromFile:
            for key in set(step) - {'type', 'to_float32'}:
                del step[key]
            step['type'] = 'effvit_mm.LoadImage'
