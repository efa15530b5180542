"""``--cfg-options data_root=/path`` for all data loaders and evaluators of a config at once."""

from __future__ import annotations

import ast
import copy
import os
import re
from collections.abc import Iterator, Mapping

from mmengine.config import Config

from ...errors import CorruptImageError, MissingDataError
from .arguments import dataset_nodes, has_type, metric_nodes
from .source import read_files

EVALUATORS = ('val_evaluator', 'test_evaluator')
SAMPLE_SCENES = ('DigitScenes', 'WalkerScenes')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')

# Further names that a config may define at its top level, and what they stand for.
NAMES = {
    'train_annotations': {
        'train_dataloader': ('ann_file', 'classes_from'),
        'val_dataloader': ('classes_from',),
        'test_dataloader': ('classes_from',),
    },
    'val_annotations': {'val_dataloader': ('ann_file',), 'test_dataloader': ('ann_file',)},
    'train_images': {'train_dataloader': ('data_prefix.img',)},
    'val_images': {'val_dataloader': ('data_prefix.img',), 'test_dataloader': ('data_prefix.img',)},
}

# Where a set of one's own has its files: as configs name them; as Roboflow exports them, with the
# annotations of a split beside its images; and in YOLO's layout, where data.yaml says it.
LAYOUTS = tuple(
    dict(zip(NAMES, files, strict=True))
    for files in (
        ('annotations/train.json', 'annotations/val.json', 'images', 'images'),
        ('train/_annotations.coco.json', 'valid/_annotations.coco.json', 'train', 'valid'),
        ('data.yaml#train', 'data.yaml#val', '', ''),
    )
)

LAYOUTS_IN_WORDS = (
    'expected are data_root/annotations/{train,val}.json and data_root/images, '
    "Roboflow's data_root/{train,valid}/_annotations.coco.json beside their images, YOLO's "
    'data_root/data.yaml, or what train_annotations, val_annotations, train_images and val_images '
    'name'
)
VARIABLE = re.compile(r'\{\{\s*\$(\w+)\s*:\s*(\S*?)\s*\}\}')


def spread_data_root(cfg: dict, before: str | None) -> None:
    """Give a changed top-level ``data_root`` to the data sets that were written with the old one.

    A config file's variable is used up when the file is read, so changing it afterwards would have
    no effect, and tell nobody. A data set that was given a root of its own keeps it.
    ``cfg`` is the config after the overrides, ``before`` its ``data_root`` as the file had it.
    """
    after = cfg.get('data_root')
    if before is None or after is None or after == before:
        return
    for key in LOADERS:
        if isinstance(cfg.get(key), Mapping):
            for _, dataset in dataset_nodes(cfg[key].get('dataset'), key):
                if dataset.get('data_root') == before:
                    dataset['data_root'] = after


def spread_names(cfg: dict, before: Mapping[str, str]) -> None:
    """Give changed names of annotation files and image folders to the data sets that use them.

    The names are those of ``NAMES``; a data set that was given a file of its own keeps it. ``cfg``
    is the config after the overrides, ``before`` as the file had it.
    """
    for name, places in NAMES.items():
        old, new = before.get(name), cfg.get(name)
        if old is None or new is None or old == new:
            continue
        for loader, keys in places.items():
            given = cfg.get(loader)
            dataset = given.get('dataset') if isinstance(given, Mapping) else None
            for key in keys:
                *parents, last = key.split('.')
                node = dataset
                for parent in parents:
                    node = node.get(parent) if isinstance(node, Mapping) else None
                if isinstance(node, Mapping) and node.get(last) == old:
                    node[last] = new


def follow_layout(cfg: Mapping) -> None:
    """Give a config of the first of ``LAYOUTS`` the names of the one that ``data_root`` has.

    The first is kept where its training annotations are there, or those of none.
    """
    usual, *others = LAYOUTS
    root, before = cfg.get('data_root'), copy.deepcopy(dict(cfg))
    if not root or any(before.get(name) != file for name, file in usual.items()):
        return
    for layout in (usual, *others):
        if os.path.isfile(os.path.join(root, layout['train_annotations'].partition('#')[0])):
            cfg.update(layout)
            spread_names(cfg, before)
            follow_annotation_files(cfg, before)
            return


def follow_annotation_files(cfg: dict, before: Mapping) -> None:
    """Give evaluators the annotation file of a data set that was overridden.

    Those whose ``ann_file`` was another than that of the data set they judge keep it. ``cfg`` is
    the config after the overrides, ``before`` as the file had it.
    """
    for key in EVALUATORS:
        old, new = _annotation_file(before, key), _annotation_file(cfg, key)
        judged = [str(node.get('ann_file')) for _, node in metric_nodes(before.get(key))]
        for (_, node), file in zip(metric_nodes(cfg.get(key)), judged, strict=False):
            if old and new and os.path.normpath(file) == old and node.get('ann_file') == file:
                node['ann_file'] = new


def _annotation_file(cfg: dict, evaluator: str) -> str | None:
    loader = cfg.get(evaluator.replace('evaluator', 'dataloader'))
    dataset = loader.get('dataset') if isinstance(loader, Mapping) else None
    if not isinstance(dataset, Mapping):
        return None
    file, split = dataset.get('ann_file'), dataset.get('split')
    if not file and split and any(has_type(dataset, name) for name in SAMPLE_SCENES):
        file = f'annotations/{split}.json'
    root = dataset.get('data_root') or ''
    if not file or not isinstance(file, str) or not isinstance(root, str):
        return None  # of another kind: refused by its key
    return os.path.normpath(os.path.join(root, file))


def how_to_find(cfg: Config | None, error: Exception | None) -> str:
    """Behind an error of a data set's file or folder: what can be done about it in the config.

    Of what is missing: what the root is taken from, and of COCO-style folders, whose error cannot
    know it, the layouts that there are. Of a corrupt image: how to leave it out.
    """
    if cfg is not None and isinstance(error, CorruptImageError):
        sets = list(_sets_with(cfg, str(error))) or ['train_dataloader.dataset']
        return (
            '; take it away, or leave such images out by --cfg-options '
            f'{" ".join(f"{path}.skip_corrupt=True" for path in sets)}'
        )
    if cfg is None or not isinstance(error, MissingDataError):
        return ''
    root, text = cfg.get('data_root'), str(error)
    usual = all(cfg.get(name) == file for name, file in LAYOUTS[0].items())
    layouts = LAYOUTS_IN_WORDS if usual and _is_below(text, root) else ''
    variables = list(_variables(cfg))
    names = [name for name, value in variables if _is_below(text, value)]
    ways = [f'set the environment variable {name}' for name in names[:1]]
    # A root that the command line gave in the place of a variable's needs no word more.
    if _is_below(text, root) and (names or not variables):
        ways.append('give --cfg-options data_root=/path')
    return ''.join(f'; {part}' for part in (layouts, ' or '.join(ways)) if part)


def _sets_with(cfg: Config, text: str) -> Iterator[str]:
    """The places of data sets in whose folder of images is what a message names."""
    for loader in (loader for loader in LOADERS if isinstance(cfg.get(loader), Mapping)):
        for path, node in dataset_nodes(cfg[loader].get('dataset'), f'{loader}.dataset'):
            prefix = node.get('data_prefix') or node.get('split') or ''
            folders = prefix.values() if isinstance(prefix, Mapping) else [prefix]
            root = str(node.get('data_root') or '')
            if any(_is_below(text, os.path.join(root, str(folder))) for folder in folders):
                yield re.sub(r'\[(\d+)\]', r'.\1', path)  # as command lines write it


def _is_below(text: str, root: object) -> bool:
    """Whether a message has a path in this folder, or the folder itself."""
    if not root or not isinstance(root, str):
        return False
    ways = (root, os.path.normpath(root), os.path.abspath(root))
    either = '|'.join(map(re.escape, ways))
    return re.search(rf'(?<![\w./-])(?:{either})(?![\w.-])', text) is not None


def _variables(cfg: Config) -> Iterator[tuple[str, str]]:
    """Environment variables that a config's files read, and their values, the nearest first."""
    file = read_files(cfg.filename) if cfg.filename else None
    for node in (node for one in file.files() for node in ast.walk(one.tree)) if file else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for name, default in VARIABLE.findall(node.value):
                yield name, os.environ.get(name, default)
