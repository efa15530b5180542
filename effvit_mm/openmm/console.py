"""What appears on the console: the training's progress and what needs attention.

The log file in the work folder has everything, environment and config included.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import cv2
from mmengine.logging import MMLogger

from ..utils.silence import silent_imports

PACKAGE = str(Path(__file__).resolve().parents[1])
OPENCV_ERRORS = 2  # cv2.utils.logging.LOG_LEVEL_ERROR
# `extra` of what the log file has and the console has not.
IN_FILE_ALONE = {'in_file_alone': True}
LOGGER_HOOK = os.path.join('mmengine', 'hooks', 'logger_hook.py')
# mmengine's progress lines that say nothing, and warnings that ask for nothing.
CHATTER = re.compile(
    r'^Exp name: '
    r'|save_param_scheduler` is True but'
    r'|resume_param_scheduler` is True but'
    r'|"FileClient" will be deprecated|"HardDiskBackend" is the alias'
    r'|The value of random seed in the'  # said better by our runner
    r'|dataset metainfo from the resumed checkpoint'  # tuples come back as lists
    r'|Failed to search registry with scope'
    r'|has no metainfo'
    r'|The model and loaded state dict do not match exactly'  # our load report says it
)


# COCO's figure of a size of which there is no object.
ABSENT = re.compile(r'(\w+_(?:mAP|AR)\w*): -1\.0000')


class ConsoleFilter(logging.Filter):
    """Pass our own lines, mmengine's progress lines, and warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, 'in_file_alone') or CHATTER.search(record.getMessage()):
            return False
        if record.levelno >= logging.WARNING:
            return True
        if record.funcName == 'after_val_iter':  # the line with the metrics follows at once
            return False
        return record.pathname.startswith(PACKAGE) or record.pathname.endswith(LOGGER_HOOK)


class ConsoleFormatter(logging.Formatter):
    """Time and message; a level only where it is not INFO."""

    def __init__(self) -> None:
        super().__init__('%(asctime)s  %(message)s', '%H:%M:%S')

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        text = ABSENT.sub(r'\1: -', text)
        if record.levelno >= logging.WARNING:
            return text.replace('  ', f'  {record.levelname.lower()}: ', 1)
        return text


def quieten(logger: logging.Logger) -> None:
    """Give the logger's console handlers our filter and format; a log file that cannot be written,
    as on a full disk, is told of once, in a line."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            _tell_once(handler)
        elif isinstance(handler, logging.StreamHandler):
            handler.addFilter(ConsoleFilter())
            handler.setFormatter(ConsoleFormatter())


def _tell_once(handler: logging.FileHandler) -> None:
    """In the place of logging's own traceback for each line."""
    told: list[str] = []

    def tell(record: logging.LogRecord) -> None:
        if not told:
            told.append(f'warning: {handler.baseFilename} cannot be written: {sys.exc_info()[1]}')
            print(told[0], file=sys.stderr)

    handler.handleError = tell  # type: ignore[method-assign]


@contextlib.contextmanager
def without_lines_of_variables() -> Iterator[None]:
    """Leave out what mmengine says of a variable in a config, once for each time it is read."""
    logger = MMLogger.get_current_instance()

    def is_other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith('Using env variable')

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def import_quietly(scope: str) -> None:
    """Import what a config's scope registers; some of it prints while it is imported."""
    if scope in ('mmpretrain', 'mmdet'):
        with silent_imports():
            importlib.import_module(f'{scope}.datasets')
            importlib.import_module(f'{scope}.models')
            importlib.import_module('effvit_mm.openmm.datasets')  # takes in mmpretrain's


def print_in_any_locale() -> None:
    """What standard output's encoding lacks becomes a question mark: tables are drawn with lines,
    and classes have names in all languages. Standard error knows what to do by itself."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='replace')


class _WithoutAsides:
    """A text stream that leaves out pycocotools' lines of progress, and a package that mmdet and
    mmpretrain say is not there while they are imported, as configs in pure Python do."""

    lines = re.compile(
        r'loading annotations into memory|creating index|index created!|Loading and preparing'
        r'|D(one|ONE) \(t=|Could not import OneDL'
    )

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._left_out = stream, False

    def write(self, text: str) -> int:
        """Pass text on, unless it is such a line; ``print`` writes a line's end by itself."""
        line_end, self._left_out = self._left_out and text == '\n', bool(self.lines.match(text))
        return len(text) if line_end or self._left_out else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def without_asides() -> Iterator[None]:
    """Leave lines of libraries that tell nobody anything out of what is printed in the block."""
    with contextlib.redirect_stdout(_WithoutAsides(sys.stdout)):
        yield


@contextlib.contextmanager
def quiet_standard_error() -> Iterator[None]:
    """Drop what others than Python say there: shells, of a missing compiler; PyTorch's C++."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, 'w') as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _one_line(message: Warning | str, *_: object) -> str:
    return f'warning: {message}\n'


def silence_third_parties() -> None:
    """Drop Python warnings of libraries; ours stay, a line each."""
    warnings.simplefilter('ignore')
    warnings.filterwarnings('default', module=r'effvit_mm')
    warnings.formatwarning = _one_line
    os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')
    for name in ('torch.distributed', 'matplotlib', 'PIL'):
        logging.getLogger(name).setLevel(logging.ERROR)
    if hasattr(cv2, 'setLogLevel'):
        cv2.setLogLevel(OPENCV_ERRORS)
