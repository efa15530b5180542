"""Processes that a run has started, as the workers of data loaders."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Collection
from multiprocessing.process import BaseProcess
from typing import Any

PATIENCE = 5.0  # seconds


def end_children(kept: Collection[BaseProcess] = ()) -> None:
    """End the processes that this one has started, but for those that are to be kept.

    PyTorch watches the workers of its data loaders and raises an error when one dies of a signal;
    where that is how they end, as those of a loader whose iterator is still there, its handler must
    not see it. To be called in the main thread.
    """
    watcher = _stop_watching()
    try:
        children = [child for child in multiprocessing.active_children() if child not in kept]
        for child in children:
            child.terminate()
        for child in children:
            child.join(PATIENCE)
            if child.is_alive():
                child.kill()
                child.join()
    finally:
        if watcher is not None:
            signal.signal(signal.SIGCHLD, watcher)


def _stop_watching() -> Any:
    """Take PyTorch's handler away; gives it back. What it has still to say is passed over."""
    if not hasattr(signal, 'SIGCHLD'):  # Windows
        return None
    while True:
        try:
            return signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        except RuntimeError:  # of a worker that has ended; each is told once
            continue
