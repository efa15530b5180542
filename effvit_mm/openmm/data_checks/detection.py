"""Checks of COCO- and VOC-style sets before anything is built from a config.

They run by themselves before a training and a test, as far as they are cheap: of image files the
sizes are read. ``data_checks=dict(coco=False)`` turns them off,
``data_checks=dict(allow_unknown_categories=True)`` lets boxes be left out whose categories the
config does not know. What is lost without being a failure is told in a line for each set.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import mmengine.registry as root
from mmengine.logging import MMLogger

from ...errors import DataError
from ...utils.distributed import on_main_process
from ...utils.silence import silent_imports
from ..config.arguments import dataset_nodes, has_type, metric_nodes, node_class
from ..datasets.coco_check import CocoReport, CocoSource, Finding, OrderedCocoSource, check_coco
from ..datasets.coco_format import read_classes
from ..datasets.fault_kinds import KINDS
from ..datasets.voc_format import VocSource


def check_detection_sets(
    loader: object, key: str, options: Mapping, evaluators: object = None
) -> None:
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
    sources = judged_sets(loader, key, evaluators)
    for path, source in sources.items():
        _check_source(source, path, options)
    predicted = [(path, s) for path, s in sources.items() if not path.endswith('.ann_file')]
    for path, source in sources.items():
        if path.endswith('.ann_file'):
            _check_same_images(path, source, *predicted[0])


def judged_sets(loader: object, key: str, evaluators: object) -> dict[str, CocoSource]:
    """The sets of a loader by config key, and annotation files that evaluators have besides.

    Args:
        loader: A loader's part of the config, whose key is ``key``.
        key: As ``val_dataloader``.
        evaluators: The part of the config with what judges that loader's set.
    """
    loader = loader if isinstance(loader, Mapping) else {}
    sources = dict(detection_sources(loader.get('dataset'), f'{key}.dataset'))
    judge = key.replace('dataloader', 'evaluator')
    judges = list(_evaluators(evaluators, judge))
    kinds = {kind for _, node in judges if not node.get('format_only') for kind in _judged(node)}
    files = {name: node['ann_file'] for name, node in judges if _has_local_file(node)}
    found = {}
    for path, source in sources.items():
        own = all(_same_file(file, source.ann_file) for file in files.values())
        found[path] = _judge(source, kinds if own else set(), judge)
        if not files:  # then what is judged comes from the set as it was loaded
            found[path] = replace(found[path], limited='', filtered=False)
    if len(sources) == 1:
        for name, file in files.items():
            if not _same_file(file, source.ann_file):
                other = CocoSource(
                    Path(file), classes=_all_classes(source), training=False,
                    size_folder=source.image_folder,
                )  # fmt: skip
                found[f'{name}.ann_file'] = _judge(other, kinds, judge)
    return found


def _judge(source: CocoSource, kinds: set[str], evaluator: str) -> CocoSource:
    """The set with what is evaluated by it."""
    masks = source.with_masks or 'segm' in kinds
    return replace(source, judged=tuple(sorted(kinds)), with_masks=masks, evaluator=evaluator)


def _all_classes(source: CocoSource) -> tuple[str, ...]:
    if source.classes is not None:
        return source.classes
    return tuple(category['name'] for category in source.read(_pass)['categories'])


def _pass(*_) -> None:
    """Faults are told when the set itself is checked."""


def _same_file(first: str | Path, second: str | Path) -> bool:
    return os.path.abspath(first) == os.path.abspath(second)


def _check_source(source: CocoSource, path: str, options: Mapping) -> None:
    report = check_coco(source, options=options, keep=True)
    for kind in report.fatal():
        raise DataError(describe(report, kind, path))
    if told := report.told():
        MMLogger.get_current_instance().warning(_loss(report, told, path))


def _evaluators(node: object, key: str) -> Iterator[tuple[str, Mapping]]:
    """``(config key, dict)`` of what judges detections."""
    with silent_imports():
        from mmdet.evaluation import CocoMetric, VOCMetric

    for path, metric in metric_nodes(node, key):
        cls = node_class(root.METRICS, metric)
        if cls is not None and issubclass(cls, CocoMetric | VOCMetric):
            yield path, metric


def _judged(node: Mapping) -> set[str]:
    """``'bbox'``, ``'segm'`` or both."""
    kinds = node.get('metric') or 'bbox'
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    return {kind if kind == 'segm' else 'bbox' for kind in kinds}


def _has_local_file(node: Mapping) -> bool:
    file = node.get('ann_file')
    return isinstance(file, str) and '://' not in file and not node.get('backend_args')


def _check_same_images(name: str, judged: CocoSource, path: str, source: CocoSource) -> None:
    """The set that is judged must be the set that was predicted.

    mmdet stops after all predictions where images are unknown; others it takes for ones in which
    nothing was found.
    """
    own, other = (
        {image['id']: os.path.basename(image['file_name']) for image in s.read(_pass)['images']}
        for s in (source, judged)
    )
    differing = [i for i in {**own, **other} if own.get(i) != other.get(i)]
    if differing:
        first = differing[0]
        names = other.get(first, 'none'), own.get(first, 'none')
        raise DataError(
            f'{name}={judged.ann_file} does not fit {path} ({source.ann_file}): {len(differing)} '
            f'of {len(own | other)} images differ; the first, id {first}, is {names[0]} and '
            f'{names[1]} there'
        )


def describe(report: CocoReport, kind: str, path: str) -> str:
    """One line for a kind of fault: where, how many, an example, what to do."""
    found = report.by_kind()[kind]
    more = f' and {len(found) - 1} more' if len(found) > 1 else ''
    remedy = report.remedy(kind)
    if len(found) > 1:
        remedy = '; '.join(filter(None, [remedy, _LISTED]))
    return (
        f'{path}: {KINDS[kind].title} in {report.source.ann_file}: {_place(report, found[0])}{more}'
        f'{remedy and "; "}{remedy}'
    )


_LISTED = '`tools/analysis_tools/check_dataset.py` lists all'


def _loss(report: CocoReport, groups: Mapping[str, list[Finding]], path: str) -> str:
    """One line with all that is lost, counted, and an example of each."""
    parts = [
        f'{len(found)} {KINDS[kind].title} ({_place(report, found[0])}) {report.effect(kind)}'
        for kind, found in groups.items()
    ]
    return f'{path} ({report.source.ann_file}): {"; ".join(parts)}. {_LISTED}'


def _place(report: CocoReport, finding: Finding) -> str:
    file = '' if finding.file == str(report.source.ann_file) else f'{finding.file}, '
    return f'{file}{finding.detail}'


# Sets of a config ---------------------------------------------------------------------------------


def detection_sources(node: object, path: str) -> Iterator[tuple[str, CocoSource]]:
    """``(config key, set)`` of each COCO- or VOC-style set in a data set's part of a config.

    Sets in a remote store are passed over, and those with a reader of their own.
    """
    training = path.startswith('train_dataloader')
    for key, part in dataset_nodes(node, path):
        source = _source(part, training)
        if source is not None:
            yield key, source


def _source(node: Mapping, training: bool) -> CocoSource | None:
    cls, node = node_class(root.DATASETS, node), copy.deepcopy(dict(node))
    kind = source_kind(cls)
    if kind is None:
        return None
    from ..datasets.detection import DigitScenes

    if issubclass(cls, DigitScenes):
        cls.make(node.get('data_root'))
        node = {**cls.place(node.get('data_root'), node.get('split')), **node}
    where, file = node.get('data_root') or '', node.get('ann_file') or ''
    prefix = node.get('data_prefix') or {}
    folder = prefix.get('sub_data_root' if kind is VocSource else 'img', '')
    if node.get('backend_args') or not file or any('://' in str(p) for p in (where, file, folder)):
        return None
    filters = node.get('filter_cfg') or {}
    common = {
        'ann_file': Path(os.path.join(where, file)),
        'image_folder': Path(os.path.join(where, folder)),
        'classes': _classes(node, cls, where),
        'training': training and not node.get('test_mode'),
        'filter_empty': bool(filters.get('filter_empty_gt')),
        'min_size': filters.get('min_size', 0),
        'skip_corrupt': bool(node.get('skip_corrupt')),
        'filtered': not training and not node.get('test_mode'),
    }
    if node.get('indices') is not None:
        common['limited'] = '' if training else f'indices={node["indices"]!r}'
    if kind is VocSource:
        own = {key: node[key] for key in ('img_subdir', 'ann_subdir') if key in node}
        return VocSource(**common, **own, bbox_min_size=filters.get('bbox_min_size') or 0)
    with_masks, polygons_only = _mask_loading(node.get('pipeline') or ())
    return kind(**common, with_masks=with_masks, polygons_only=polygons_only)


def source_kind(cls: type | None) -> type[CocoSource] | None:
    """How a class of data sets reads annotation files; None where in no way that is known here."""
    if 'mmdet.datasets' not in sys.modules:
        return None
    with silent_imports():
        from mmdet.datasets import CocoDataset, XMLDataset

    from ..datasets.detection import ReadsCoco, ReadsVoc

    def reads_as(base: type) -> bool:
        ways = ('load_data_list', 'parse_data_info')
        return issubclass(cls, base) and all(getattr(cls, w) is getattr(base, w) for w in ways)

    if cls is None:
        return None
    if issubclass(cls, ReadsCoco):
        return CocoSource
    if reads_as(CocoDataset):  # a class of the user's
        return OrderedCocoSource
    return VocSource if issubclass(cls, ReadsVoc) or reads_as(XMLDataset) else None


def _classes(node: Mapping, cls: type, where: str) -> tuple[str, ...] | None:
    classes = cls._load_metainfo(node.get('metainfo')).get('classes')
    if classes is None and node.get('classes_from'):
        classes = read_classes(os.path.join(where, node['classes_from']))
    return None if classes is None else tuple(classes)


def _mask_loading(pipeline: list[Mapping]) -> tuple[bool, bool]:
    """Whether masks are loaded, and whether as polygons."""
    for step in pipeline:
        if has_type(step, 'LoadAnnotations') and step.get('with_mask'):
            return True, not step.get('poly2mask', True)
    return False, False
