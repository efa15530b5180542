"""Files that are either whole or not there: a kill at any moment leaves the old or the new one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import ConfigError, UserError

TEMPORARY_SUFFIX = '.tmp'
# What file systems say that have no fsync, and that have none for folders (Windows opens none).
CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF)
CANNOT_OPEN = (errno.EACCES, errno.EISDIR, errno.EPERM)


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


@contextmanager
def folder_kept_with_file(path: str | Path) -> Iterator[None]:
    """Folders that are made in the block for ``path`` go again where it ends by an exception."""
    made = [folder for folder in Path(path).absolute().parents if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in made:  # the innermost first
            with suppress(OSError):  # something is in it, or it was never made
                folder.rmdir()
        raise


def _sync(path: Path) -> None:
    """Have the operating system bring a file, or a folder's list of names, to the disk.

    Some file systems (of networks, of object stores, of other systems) cannot do it, most often for
    folders: there it is left out. What was written is whole all the same, as long as the machine
    runs.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (CANNOT_SYNC if path.is_file() else (*CANNOT_SYNC, *CANNOT_OPEN)):
            raise


def write_text(path: str | Path, text: str) -> None:
    """Write a small text file, in UTF-8, atomically."""
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


class LineFile:
    """A text file that grows by lines as they come: what is there counts, whatever comes after.

    It takes the place of an older one with its first line. To be used as a context manager. Names
    of files that are no UTF-8 are written as they are.

    Args:
        path: The file.
        kept: Bytes of one that is there, which stay: what is behind them goes at once, and lines
            are added in its place. None: it begins anew.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """

    def __init__(self, path: str | Path, kept: int | None = None) -> None:
        self.path, self.kept = Path(path), kept
        self._file: IO[str] | None = None

    def write(self, line: str) -> None:
        """Add a line and hand it to the system."""
        with self._told():
            if self._file is None:
                self._file = self._open('w')
            self._file.write(line + '\n')
            self._file.flush()

    def _open(self, mode: str) -> IO[str]:
        return self.path.open(mode, encoding='utf-8', errors='surrogateescape', newline='')

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f'{self.path} cannot be written: {error.strerror or error}') from error

    def __enter__(self) -> LineFile:
        if self.kept is not None:
            with self._told():
                self._file = self._open('a')
                self._file.truncate(self.kept)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk, which write() has told of
                self._file.close()


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
    if folder.is_file():
        raise ConfigError(f'{key}: {folder} is a file, where a folder is needed')
    probe = folder / f'.effvit_mm_probe_{os.getpid()}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b'')
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f'{key}: the folder {folder} cannot be written: {error.strerror or error}'
        ) from error
