"""Data sets of a config, as far as they can be judged without their files.

The set of a test need not be there while others are trained on, so a training builds none of it.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping

import mmengine.registry as root
from mmengine.dataset import BaseDataset

from ...errors import ConfigError, UserError
from ..console import without_asides
from .arguments import check_dict, node_class, parameters
from .building import one_line

# What data sets of OpenMMLab say of themselves.
METAINFO = ('classes', 'dataset_type', 'palette', 'task_name')
SPLIT = re.compile(r'(?<![\w/.-])splits?(?![\w/.-])')  # the argument's name, in no file's


def check_set(path: str, node: Mapping) -> None:
    """Raise a ConfigError for near misses of what a set's ``metainfo`` is looked up for, for
    arguments of its base class that it makes itself, for ``indices`` of nothing, for a COCO-style
    set without annotations, and for a ``split`` that it has not."""
    if isinstance(node.get('metainfo'), Mapping):
        check_dict(node['metainfo'], f'{path}.metainfo', METAINFO, certain=False)
    if node.get('indices') in (0, [], ()):
        raise ConfigError(f'{path}.indices={node["indices"]!r}: no image is left')
    cls = node_class(root.DATASETS, node)
    for name, source in getattr(cls, 'MADE_OF', {}).items():
        if name in node:
            own = getattr(cls, '__name__', cls)
            raise ConfigError(f'{path}.{name}={node[name]!r}: {own} takes {source}, not {name}')
    is_coco = any(base.__name__ == 'CocoDataset' for base in getattr(cls, '__mro__', ()))
    if is_coco and not node.get('ann_file') and 'split' not in parameters(cls)[0]:  # its own file
        raise ConfigError(f'{path}.ann_file is missing: the file with the annotations')
    if node.get('split') is None or cls is None or not issubclass(cls, BaseDataset):
        return
    arguments = {key: value for key, value in node.items() if key not in ('type', 'pipeline')}
    arguments['lazy_init'] = True  # the files are looked for later
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # said again when the set is built
    try:
        with without_asides():
            cls(**copy.deepcopy(arguments))
    except (AssertionError, ValueError, UserError) as error:
        given, text = f'split={node["split"]!r}: ', one_line(error)
        if SPLIT.search(text):
            raise ConfigError(f'{path}.{given}{text.removeprefix(given)}') from error
    except Exception:  # whatever else a set raises is told where it is built
        return
    finally:
        logging.disable(before)
