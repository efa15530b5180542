"""Errors of libraries as one line for the person who wrote the config.

Only where it is clear that the config or the data are at fault; everything else is a bug and keeps
its traceback.
"""

from __future__ import annotations

import errno
import re
import traceback

from ..errors import ConfigError, DataError, MissingDataError, UserError
from .config.building import one_line

TOO_SMALL = re.compile(
    r"Kernel size can't be greater than actual input size|[Oo]utput size is too small"
    r'|Calculated padded input size per channel'
)
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)
WORKER_KILLED = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: ([\w ]+)|exited unexp)'
)
LOST = (ConnectionError, EOFError, FileNotFoundError)  # of a connection whose other end is gone
# The disk's; a file that is written to has no name in such an error.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
NO_SETTING = re.compile(r"'ConfigDict' object has no attribute '(\w+)'")
# What mmengine says when a name that a config imports is looked for.
NO_IMPORT = re.compile(r'Failed to import (.+) in (.+), line (\d+)(?: for (.*))?$')
NO_SAMPLE = re.compile(r'Cannot find valid image after (\d+)')


def as_user_error(error: Exception) -> UserError | None:
    """The error as the user's, or None where it is not clearly one."""
    if isinstance(error, UserError):
        return type(error)(one_line(error))
    text = one_line(error)
    if TOO_SMALL.search(text):
        return DataError(
            f'the images are too small for the network: {text}; enlarge them in the '
            'train_dataloader.dataset.pipeline'
        )
    if match := NO_SAMPLE.search(text):
        return DataError(
            f'train_dataloader.dataset: its pipeline left nothing of {match[1]} images in a row; '
            'look for a crop that misses all boxes, or a filter that takes all of them'
        )
    if isinstance(error, ImportError) and (match := NO_IMPORT.match(text)):
        reason = f': {match[4]}' if match[4] else ': there is no such name'
        return ConfigError(f'config {match[2]}, line {match[3]}: {match[1]}{reason}')
    match = WORKER_KILLED.search(text)
    if match or _comes_of_a_worker(error):
        how = f'by the signal {match[1].lower()}' if match and match[1] else 'from outside'
        return UserError(
            f'a worker process of a data loader was ended {how}, as the system does where memory '
            'is short; lower train_dataloader.num_workers, 0 for none'
        )
    if match := NO_SETTING.search(text):
        return ConfigError(f'model.train_cfg or model.test_cfg: {match[1]} is missing')
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        return UserError(f'out of memory ({text[:120]}); lower train_dataloader.batch_size')
    if isinstance(error, OSError) and error.filename is not None:
        kind = MissingDataError if isinstance(error, FileNotFoundError) else DataError
        return kind(f'{error.filename}: {error.strerror}')
    if isinstance(error, OSError) and error.errno in DISK:
        return UserError(f'a file cannot be written: {error.strerror}')
    return None


def _comes_of_a_worker(error: Exception) -> bool:
    """Whether a worker was gone amid what it sent, before the data loader saw its end."""
    if not isinstance(error, LOST) or getattr(error, 'filename', None):
        return False
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == '_try_get_data' for frame, _ in frames)
