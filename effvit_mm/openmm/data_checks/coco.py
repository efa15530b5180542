"""Checks of COCO-style sets before anything is built from a config.

They run by themselves before a training and a test, as far as they are cheap: image files are
looked for, not read. ``data_checks=dict(coco=False)`` turns them off,
``data_checks=dict(allow_unknown_categories=True)`` lets boxes be left out whose categories the
config does not know.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import mmengine.registry as root

from ...errors import DataError
from ...utils.distributed import on_main_process
from ..config.arguments import dataset_nodes, has_type, node_class
from ..datasets.coco_check import KINDS, CocoReport, CocoSource, check_coco
from ..datasets.coco_format import category_names, read_coco

ALLOWABLE = ('unknown_category', 'unused_category')


def check_coco_sets(loader: object, key: str, options: Mapping, evaluators: object = None) -> None:
    """Raise for the first thing that would break the training or falsify it without a word.

    Called by all processes together: the main one reads the files, for all.

    Args:
        loader: A loader's part of the config, whose key is ``key``; none where it is built already.
        options: ``data_checks`` of the config.
        evaluators: The part of the config with what judges that loader's set.
    """
    if 'mmdet.datasets' not in sys.modules or not options.get('coco', True):
        return
    if isinstance(loader, Mapping):
        on_main_process(lambda: _check_sets(loader, key, options, evaluators))


def _check_sets(loader: Mapping, key: str, options: Mapping, evaluators: object) -> None:
    sources = dict(coco_sources(loader.get('dataset'), f'{key}.dataset'))
    for path, source in sources.items():
        _check_source(source, path, options)
    if len(sources) == 1:
        for name, file in _evaluated_files(evaluators, key.replace('dataloader', 'evaluator')):
            if os.path.abspath(file) != os.path.abspath(source.ann_file):
                _check_evaluated(Path(file), name, source, path, options)


def _check_source(source: CocoSource, path: str, options: Mapping) -> None:
    report = check_coco(source)
    for kind in report.fatal():
        if kind not in ALLOWABLE or not options.get('allow_unknown_categories'):
            raise DataError(describe(report, kind, path))


def _evaluated_files(evaluators: object, key: str) -> Iterator[tuple[str, str]]:
    """``(config key, annotation file)`` of what computes COCO's figures."""
    from mmdet.evaluation import CocoMetric

    if isinstance(evaluators, list | tuple):
        for index, item in enumerate(evaluators):
            yield from _evaluated_files(item, f'{key}[{index}]')
    if not isinstance(evaluators, Mapping) or evaluators.get('backend_args'):
        return
    cls, file = node_class(root.METRICS, evaluators), evaluators.get('ann_file')
    local = isinstance(file, str) and '://' not in file
    if local and cls is not None and issubclass(cls, CocoMetric):
        yield f'{key}.ann_file', file


def _check_evaluated(
    file: Path, name: str, source: CocoSource, path: str, options: Mapping
) -> None:
    """The set that is judged must be the set that was predicted: its classes and its images.

    mmdet stops after all predictions where images are unknown; others it takes for ones in which
    nothing was found.
    """
    data = read_coco(source.ann_file)
    classes = source.classes or category_names(data, source.ann_file)
    judged = replace(source, ann_file=file, image_folder=None, with_masks=False, classes=classes)
    _check_source(judged, name, options)
    own, other = (
        {image['id']: os.path.basename(image['file_name']) for image in images}
        for images in (data['images'], read_coco(file)['images'])
    )
    differing = [i for i in {**own, **other} if own.get(i) != other.get(i)]
    if differing:
        first = differing[0]
        names = other.get(first, 'none'), own.get(first, 'none')
        raise DataError(
            f'{name}={file} does not fit {path} ({source.ann_file}): {len(differing)} of '
            f'{len(own | other)} images differ; the first, id {first}, is {names[0]} and '
            f'{names[1]} there'
        )


def describe(report: CocoReport, kind: str, path: str) -> str:
    """One line for a kind of fault: where, how many, an example, what to do."""
    found = report.by_kind()[kind]
    first = found[0]
    file = '' if first.file == str(report.source.ann_file) else f'{first.file}, '
    more = f' and {len(found) - 1} more' if len(found) > 1 else ''
    hint = '; `tools/analysis_tools/check_dataset.py` lists all'
    if kind in ALLOWABLE:
        hint = '; to leave such boxes out, set data_checks.allow_unknown_categories=True'
    elif kind == 'wrong_classes':
        hint = "; give metainfo.classes as the file lists them, or take type='effvit_mm.CocoFolder'"
    elif kind == 'missing_mask':
        hint = '; train a detector without masks, or add them'
    return (
        f'{path}: {KINDS[kind].title} in {report.source.ann_file}: {file}{first.detail}{more}{hint}'
    )


def coco_sources(node: object, path: str) -> Iterator[tuple[str, CocoSource]]:
    """``(config key, set)`` of each COCO-style set in a data set's part of a config.

    Sets in a remote store are passed over, and those with a reader of their own.
    """
    training = path.startswith('train_dataloader')
    for key, part in dataset_nodes(node, path):
        cls = _coco_class(part)
        if cls is not None and (source := _source(part, cls, training)) is not None:
            yield key, source


def _coco_class(node: Mapping) -> type | None:
    """The class, if it reads COCO files as mmdet's ``CocoDataset`` does."""
    if 'mmdet.datasets' not in sys.modules:
        return None
    from mmdet.datasets import CocoDataset

    from ..datasets.detection import CocoFolder, DigitScenes

    cls = node_class(root.DATASETS, node)
    if cls is None or not issubclass(cls, CocoDataset):
        return None
    plain = (
        cls.load_data_list is CocoDataset.load_data_list
        and cls.parse_data_info is CocoDataset.parse_data_info
    )
    return cls if plain or issubclass(cls, CocoFolder | DigitScenes) else None


def _source(node: Mapping, cls: type, training: bool) -> CocoSource | None:
    from ..datasets.detection import CocoFolder, DigitScenes

    node = copy.deepcopy(dict(node))
    if issubclass(cls, DigitScenes):
        DigitScenes.make(node.get('data_root'))
        node = {**DigitScenes.place(node.get('data_root'), node.get('split')), **node}
    where, file = node.get('data_root') or '', node.get('ann_file') or ''
    images = (node.get('data_prefix') or {}).get('img', '')
    if node.get('backend_args') or not file or any('://' in str(p) for p in (where, file, images)):
        return None
    file = Path(os.path.join(where, file))
    classes = cls._load_metainfo(node.get('metainfo')).get('classes')
    if issubclass(cls, CocoFolder) and classes is None and node.get('classes_from'):
        other = os.path.join(where, node['classes_from'])
        classes = category_names(read_coco(other), other)
    filters = node.get('filter_cfg') or {}
    with_masks, polygons_only = _mask_loading(node.get('pipeline') or ())
    return CocoSource(
        ann_file=file,
        image_folder=None if node.get('skip_corrupt') else Path(os.path.join(where, images)),
        classes=None if classes is None else tuple(classes),
        with_masks=with_masks,
        polygons_only=polygons_only,
        training=training and not node.get('test_mode'),
        filter_empty=bool(filters.get('filter_empty_gt')),
        min_size=filters.get('min_size', 0),
    )


def _mask_loading(pipeline: list[Mapping]) -> tuple[bool, bool]:
    """Whether masks are loaded, and whether as polygons."""
    for step in pipeline:
        if has_type(step, 'LoadAnnotations') and step.get('with_mask'):
            return True, not step.get('poly2mask', True)
    return False, False
