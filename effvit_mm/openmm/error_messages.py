"""Turning errors of libraries into one line for the person who wrote the config.

Only where it is clear that the config or the data are at fault; everything else is a bug and keeps
its traceback.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from mmengine.config import Config

from ..errors import ConfigError, DataError, UserError
from .config.checks import BUILD_ERRORS, KNOWN_KEYS

BUILDERS = ('build_from_cfg', 'build_model_from_cfg', 'build_scheduler_from_cfg')
TOO_SMALL = re.compile(
    r"Kernel size can't be greater than actual input size|[Oo]utput size is too small"
    r'|Calculated padded input size per channel'
)
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)
NO_SAMPLE = re.compile(r'Cannot find valid image after (\d+)')
IN_WORKER = re.compile(r'^Caught (\w+) in DataLoader worker process')


def as_user_error(error: Exception, cfg: Config | None) -> UserError | None:
    """The error as the user's, or None where it is not clearly one."""
    if isinstance(error, UserError):
        return type(error)(one_line(error))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if file := _parsed_file(frames):
        return DataError(f'annotation file {file}: {one_line(error)}')
    node = _built_node(frames)
    if node is not None and isinstance(error, BUILD_ERRORS):
        where = _find_path(cfg, node) or 'config'
        return ConfigError(f'{where} (type {_type_name(node)}): {one_line(error)}')
    text = one_line(error)
    if TOO_SMALL.search(text):
        return DataError(
            f'the images are too small for the network: {text}; enlarge them in the '
            'train_dataloader.dataset.pipeline'
        )
    if frames and frames[-1].f_code.co_name == 'check_input' and isinstance(error, ValueError):
        return DataError(f'{text}; change the size in the dataset.pipeline')
    if match := NO_SAMPLE.search(text):
        return DataError(
            f'train_dataloader.dataset: its pipeline left nothing of {match[1]} images in a row; '
            'look for a crop that misses all boxes, or a filter that takes all of them'
        )
    if OUT_OF_MEMORY.search(text):
        return UserError(f'out of memory ({text[:120]}); lower train_dataloader.batch_size')
    if isinstance(error, OSError) and error.filename is not None:
        return DataError(f'{error.filename}: {error.strerror}')
    return None


def one_line(error: BaseException) -> str:
    """An error's message on one line, without the wrappers' additions."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if IN_WORKER.match(text):
        # PyTorch packs a worker's whole traceback into the message; its end is the message.
        kind = IN_WORKER.match(text)[1]
        text = text.rsplit(f'{kind}: ', 1)[-1]
    text = re.sub(r'^class `?\w+`? in \S+: ', '', text)  # mmengine before 0.10.8
    text = re.sub(r'\. Please check whether the value of .*', '', text, flags=re.DOTALL)
    text = ' '.join(text.split())
    if text:
        return text
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f'{type(error).__name__} at `{last.line}` ({last.filename}:{last.lineno})'


def _parsed_file(frames: Sequence[FrameType]) -> str | None:
    """The VOC file that mmdet was parsing; its parser's errors do not name it."""
    for frame in reversed(frames):
        if frame.f_code.co_name == 'parse_data_info':
            record = frame.f_locals.get('img_info')
            return record.get('xml_path') if isinstance(record, Mapping) else None
    return None


def _built_node(frames: Sequence[FrameType]) -> Mapping | None:
    """The innermost config dict that was being built when the error was raised."""
    for frame in reversed(frames):
        if frame.f_code.co_name in BUILDERS:
            node = frame.f_locals.get('cfg')
            if isinstance(node, Mapping):
                return node
    return None


def _type_name(node: Mapping) -> str:
    kind = node.get('type', 'unknown')
    return kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))


def _find_path(cfg: Config | None, node: Mapping) -> str | None:
    """Where in the config a dict like ``node`` stands: the one that shares most with it.

    Frameworks copy and complete the dicts, so the very object is not there any more.
    """
    best, score = None, -1.0
    # Names of the config's own (`dataset = dict(...)`, used twice below) are not where it is built.
    known = {key: value for key, value in cfg.items() if key in KNOWN_KEYS} if cfg else {}
    for path, candidate in _walk(known, ''):
        if candidate.get('type') != node.get('type'):
            continue
        shared = sum(
            1 for key, value in candidate.items() if key in node and _same(node[key], value)
        )
        if shared - len(candidate) / 1000 > score:
            best, score = path, shared - len(candidate) / 1000
    return best


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and repr(left) == repr(right)


def _walk(value: Any, path: str) -> Iterator[tuple[str, Mapping]]:
    if isinstance(value, Mapping):
        if 'type' in value:
            yield path, value
        for key, item in value.items():
            yield from _walk(item, f'{path}.{key}' if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from _walk(item, f'{path}[{index}]')
