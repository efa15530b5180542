"""Checkpoints of an earlier run in a work folder in which another begins anew: none is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ...errors import CheckpointError, UserError
from ...utils.files import write_text
from ...weights import read_checkpoint
from .resuming import LAST, find_checkpoints


class EarlierRun:
    """The checkpoints of an earlier run, which a new one would write over.

    They stay where they are, to be resumed, until the new run has one of its own to write. A kill
    among the moves leaves some of them in either folder; the last one is moved last.

    Args:
        folder: Where they are, and where the new run writes.
        last: The name of the last one, as far as it is known.
        find: Gives those that are there now, the newest first.

    Attributes:
        last: The path of the last one.
    """

    def __init__(self, folder: str | Path, last: str, find: Callable[[], list[Path]]) -> None:
        self.folder, self._find = Path(folder), find
        found = find()
        self.last = next((path for path in found if path.name == last), found[0])
        self._name = _time_of(self.last)

    def target(self) -> Path:
        """The folder for them: of the time of their run, or of a number where that is not known.

        Nothing in it has one of their names.
        """
        numbers = (f'earlier_{number}' for number in range(1, 1_000_000))
        names = [path.name for path in self._find()]
        for name in (self._name, *numbers):
            if name and not any((self.folder / name / other).exists() for other in names):
                break
        return self.folder / str(name)

    def move(self) -> Path:
        """Move them to :meth:`target`, which is returned.

        Raises:
            UserError: They cannot be moved.
        """
        target = self.target()
        found = sorted(self._find(), key=lambda path: path.name == self.last.name)
        try:
            target.mkdir(exist_ok=True)
            if self.last in found:  # no other hook of this folder has moved it
                write_text(target / LAST, str(target / self.last.name))
            for path in found:
                path.rename(target / path.name)
        except OSError as error:
            raise UserError(
                f'checkpoints of a run before in {self.folder} cannot be moved into {target}: '
                f'{error.strerror or error}; move them, or give another folder: --work-dir DIR'
            ) from error
        return target


def find_earlier(
    work_dir: str | Path, folder: str | Path, by_epoch: bool, template: str | None
) -> EarlierRun | None:
    """What a checkpoint hook with these arguments would write over; None where there is nothing.

    Args:
        work_dir: The work folder, whose record names the last checkpoint.
        folder: Where the hook writes.
        by_epoch: It writes by epochs.
        template: How it calls its files.
    """

    def find() -> list[Path]:
        best = find_checkpoints(folder, by_epoch, template, best=True)
        return [*find_checkpoints(folder, by_epoch, template), *best]

    if not find():
        return None
    record = Path(work_dir) / LAST
    text = record.read_text(encoding='utf-8') if record.is_file() else ''
    return EarlierRun(folder, Path(text.strip()).name, find)


def _time_of(path: Path) -> str | None:
    """When the run of a checkpoint began, as its folder of logs is called."""
    try:
        meta = read_checkpoint(path, own=True).get('meta') or {}
    except CheckpointError:
        return None
    time = re.search(r'\d{8}_\d{6}$', str(meta.get('experiment_name')))
    return time and time[0]
