"""A folder that one process at a time writes into."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import ConfigError
from .files import check_writable

NAME = '.lock'


class FolderLock:
    """Keeps other processes out of a folder, by a lock of the operating system on a file in it.

    It ends with the process, however that ends: the file that stays in the folder holds nothing. A
    file system that has no locks, or a file that another user made, keeps nobody out.

    Args:
        folder: The folder, made if it is not there.
        key: The argument that names it, for messages.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        self.folder, self.key = Path(folder), key
        self._lock: FileLock | None = None

    def take(self) -> None:
        """Hold the folder, at once or not at all.

        Raises:
            ConfigError: It cannot be written, or another process holds it.
        """
        check_writable(self.folder, self.key)
        lock = FileLock(self.folder / NAME)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f'{self.key}: another run is writing into {self.folder}; wait for its end, or give '
                'another folder: --work-dir DIR'
            ) from None
        except (OSError, NotImplementedError):
            return
        self._lock = lock

    def release(self) -> None:
        """Let others have it; nothing where it is not held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
