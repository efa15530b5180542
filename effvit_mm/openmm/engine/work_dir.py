"""The work folder of a run: kept from other runs, and rid of what a start that failed has left."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.dist import is_main_process
from mmengine.logging import MMLogger

from ...utils.distributed import on_main_process
from ...utils.lock import FolderLock
from ..error_messages import as_user_error
from .processes import open_group

if TYPE_CHECKING:
    from ..cli import Session

# What the runner writes before it works: log, figures, the config.
EARLY = {'.log', '.json', '.py'}


@contextmanager
def kept_work_dir(session: Session, alone: bool = True) -> Iterator[None]:
    """Keep other runs out of the work folder; where the start fails, leave no folder of logs there.

    Args:
        session: With the config; it gets the runner within the block.
        alone: False: others may write there too.

    Raises:
        ConfigError: The folder cannot be written, or another run holds it; in all processes.
    """
    cfg = session.cfg
    lock = FolderLock(cfg.work_dir, 'work_dir')
    open_group(cfg.launcher, cfg.get('env_cfg') or {})
    if alone:
        on_main_process(lock.take)
    try:
        earlier = {path.name for path in Path(cfg.work_dir).glob('*')}
        try:
            yield
        except Exception as error:
            begun = session.runner is not None and getattr(session.runner, 'has_begun', True)
            if not begun and as_user_error(error) is not None and is_main_process():
                _remove_logs(Path(os.path.abspath(cfg.work_dir)), earlier)
            raise
    finally:
        lock.release()


def _remove_logs(work_dir: Path, earlier: set[str]) -> None:
    """Remove the folder of the newest logger where this start has made it, and nothing else is in
    it."""
    logger = MMLogger.get_current_instance()
    folder = Path(logger.log_file or '').parent
    if folder.parent != work_dir or folder.name in earlier:
        return
    if any(path.suffix not in EARLY for path in folder.rglob('*') if not path.is_dir()):
        return
    for handler in [h for h in logger.handlers if isinstance(h, logging.FileHandler)]:
        logger.handlers.remove(handler)  # it would open its file again
        handler.close()
    shutil.rmtree(folder, ignore_errors=True)
