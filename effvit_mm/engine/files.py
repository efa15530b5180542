"""Files that are either whole or not there: a kill at any moment leaves the old or the new one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..checkpoint import read_checkpoint
from ..errors import CheckpointError, ConfigError, UserError

TEMPORARY_SUFFIX = '.tmp'


def temporary_name(name: str) -> str:
    """The name under which ``name`` is written: hidden, and in the same folder."""
    return f'.{name}{TEMPORARY_SUFFIX}'


@contextmanager
def written_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary path; when the block ends well it has taken the place of ``path``.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error.strerror or error}') from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the operating system bring a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write a small text file atomically."""
    with written_atomically(path) as temporary:
        temporary.write_text(text)


def remove_stale_temporaries(folder: str | Path) -> list[Path]:
    """Remove what a killed run left of the file that it was writing."""
    stale = [p for p in Path(folder).glob(f'.*{TEMPORARY_SUFFIX}') if p.is_file()]
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def check_writable(folder: str | Path, key: str) -> None:
    """Make a folder and try to write there, before work that would be lost.

    Raises:
        ConfigError: It cannot be made or written; names ``key``, folder and reason.
    """
    folder = Path(folder)
    probe = folder / f'.effvit_mm_probe_{os.getpid()}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b'')
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f'{key}: the folder {folder} cannot be written: {error.strerror or error}'
        ) from error


def find_checkpoints(folder: str | Path, by_epoch: bool = True) -> list[Path]:
    """The ``epoch_N.pth`` and ``iter_N.pth`` of a work folder, newest first.

    Goes by the number in the name (times change when a folder is copied); where both kinds lie,
    the kind that the training writes comes first.
    """
    found: list[tuple[bool, int, Path]] = []
    for path in Path(folder).glob('*.pth'):
        if match := re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name):
            found.append(((match[1] == 'epoch') == by_epoch, int(match[2]), path))
    return [path for *_, path in sorted(found, reverse=True)]


def newest_complete_checkpoint(
    folder: str | Path,
    by_epoch: bool = True,
    trust: bool = False,
    complain: Callable[[str], None] = print,
) -> tuple[Path, dict] | None:
    """The newest checkpoint of a work folder that can be resumed, and its content.

    A broken file cannot come from us but from a copy or a disk error: it is named through
    ``complain``, and the one before it is taken. None at all gives None.

    Raises:
        CheckpointError: There are checkpoints, but not one can be resumed.
    """
    found = find_checkpoints(folder, by_epoch)
    for path in found:
        try:
            content = read_checkpoint(path, trust=trust)
            check_resumable(content, path)
        except CheckpointError as error:
            if path == found[-1]:
                raise
            complain(f'{error}; trying the checkpoint before it')
            continue
        return path, content
    return None


def check_resumable(content: dict, path: str | Path) -> None:
    """Raise where a checkpoint has weights but not the state of a training."""
    needed = ('state_dict', 'meta', 'message_hub', 'optimizer')
    missing = [key for key in needed if key not in content]
    if missing:
        raise CheckpointError(
            f'checkpoint {path} cannot be resumed: it has no {", ".join(missing)}. To start a new '
            f'training from its weights use `--cfg-options load_from={path}`'
        )
