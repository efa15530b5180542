"""Which COCO-style set a config tests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope

from ...errors import ConfigError
from ..config.arguments import metric_nodes, type_path
from ..datasets.coco_format import category_ids, category_names, read_coco
from ..datasets.voc_format import VocSource
from .detection import detection_sources


@dataclass(frozen=True)
class TestedSet:
    """An annotation file as the metric reads it: names and ids of its categories by label."""

    __test__ = False  # for pytest, which takes the name for a test's

    file: Path
    data: dict
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]


def find_tested_set(cfg: Config) -> TestedSet:
    """The set of ``test_dataloader``, with the evaluator's annotation file where it has one.

    Raises:
        ConfigError: It is not COCO-style.
        DataError: The file is missing or broken.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        found = [source for _, source in detection_sources(dataset, 'test_dataloader.dataset')]
    sources = [source for source in found if not isinstance(source, VocSource)]
    if len(sources) != 1:
        kind = type_path(dataset.get('type')) if isinstance(dataset, Mapping) else 'none'
        raise ConfigError(
            f'test_dataloader.dataset (type {kind}): one COCO-style set is needed, as CocoDataset, '
            f'CocoFolder or DigitScenes; found {len(sources)}'
        )
    files = [node.get('ann_file') for _, node in metric_nodes(cfg.get('test_evaluator'))]
    file = Path(next(filter(None, files), sources[0].ann_file))
    data = read_coco(file, sources[0].image_folder)
    classes = sources[0].classes or category_names(data, file)
    ids = category_ids(data, classes, file)
    return TestedSet(file=file, data=data, classes=tuple(classes), category_ids=tuple(ids))
