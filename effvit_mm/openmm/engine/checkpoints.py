"""The checkpoints of a work folder: found, newest first, and whether they can be resumed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ...errors import CheckpointError
from ...weights.checkpoint import read_checkpoint


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
