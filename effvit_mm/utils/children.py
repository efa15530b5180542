"""Processes that a run has started, as the workers of data loaders."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Collection
from multiprocessing.process import BaseProcess

PATIENCE = 5.0  # seconds


def end_children(kept: Collection[BaseProcess] = ()) -> None:
    """End the processes that this one has started, but for those that are to be kept.

    PyTorch watches the workers of its data loaders and raises an error when one dies of a signal;
    where that is how they end, as those of a loader whose iterator is still there, its handler must
    not see it. To be called in the main thread.
    """
    children = [child for child in multiprocessing.active_children() if child not in kept]
    if not children:
        return
    watched = hasattr(signal, 'SIGCHLD')  # not on Windows
    watcher = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if watched else None
    try:
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
