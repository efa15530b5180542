"""Processes of subjects, held until it is their turn.

Each subject has a process of its own: its memory is its own, it may be of another version of this
package, and where it breaks the others go on. While one runs, the others wait without using the
processor.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NamedTuple

from .latency import Timing, interleaved_timings
from .memory import FailedError
from .subjects import Subject

SCRIPT = Path(__file__).with_name('worker.py')
TREE = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 5
# Before a turn, in seconds. OpenMP's threads look out for more work for a while, on a whole core,
# before they sleep: those of the process whose turn it was must have done so.
PAUSE = 0.05


class Worker:
    """A process that answers questions; see :mod:`.answers` for these.

    Args:
        tree: Folder whose ``effvit_mm`` it uses; this one's where it is None.
    """

    def __init__(self, tree: str | None = None) -> None:
        self._ours, theirs = Pipe()
        descriptor = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(descriptor), str(tree or TREE)],
            pass_fds=[descriptor],
            stdout=subprocess.DEVNULL,  # libraries talk; what went wrong comes through the pipe
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the one who asks
        )
        theirs.close()

    def ask(self, question: str, *arguments: Any) -> Any:
        """Call a function of :mod:`.answers` there.

        Raises:
            FailedError: It raised, or the process has ended.
        """
        try:
            self._ours.send((question, *arguments))
            answer, message, details = self._ours.recv()
        except (EOFError, OSError):
            raise FailedError(f'the process ended with code {self._process.wait()}', '') from None
        if message:
            raise FailedError(message, details)
        return answer

    def dismiss(self) -> None:
        """Tell the process to end."""
        self._ours.close()

    def close(self) -> None:
        """Wait for its end, or make it."""
        self.dismiss()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Found(NamedTuple):
    """What was found of a subject.

    Attributes:
        costs: ``{part: (memory, process, multiply-adds, parameters)}``, see :class:`.answers.Cost`.
        timings: ``{part: seconds of a batch}``.
        error: What went wrong; empty, or all else is.
        details: Its traceback.
    """

    costs: dict[str, tuple[int, int, int, int]]
    timings: dict[str, Timing]
    error: str = ''
    details: str = ''


class _Subject:
    """A worker with its subject; after a failure it answers no more."""

    def __init__(self, worker: Worker, subject: Subject, threads: int) -> None:
        self.worker = worker
        self.failure: FailedError | None = None
        self.costs: dict[str, tuple] = self._ask('begin', subject, threads) or {}
        self.timings: dict[str, Timing] = {}

    def _ask(self, *question: Any) -> Any:
        if self.failure is None:
            try:
                return self.worker.ask(*question)
            except FailedError as error:
                self.failure = error
        return None

    def seconds(self, part: str) -> float:
        """Of one pass; NaN after a failure."""
        time.sleep(PAUSE)
        found = self._ask('seconds', part)
        return math.nan if found is None else found

    def found(self) -> Found:
        if self.failure is not None:
            return Found({}, {}, str(self.failure), self.failure.details)
        return Found(self.costs, self.timings)


def measure_in_turns(
    subjects: Sequence[tuple[Subject, str | None]],
    threads: int,
    repeats: int = 20,
    warm_up: int = 2,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Found]:
    """Start a process for each subject, one after another, then time all in turns, A B A B ...

    Args:
        subjects: Each with the folder whose ``effvit_mm`` it is to use, None for this one.
        threads: Of PyTorch and onnxruntime, in each process.
        repeats: Timed passes of each part.
        warm_up: Passes of each before those.
        tell: Called with a line on what was done.
    """
    with ExitStack() as stack:
        held = []
        for subject, tree in subjects:
            worker = Worker(tree)
            stack.callback(worker.close)
            held.append(_Subject(worker, subject, threads))
            failure = held[-1].failure
            tell(f'{subject}: {"ready" if failure is None else failure}')
        parts = [(one, name) for one in held for name in one.costs]
        passes = [partial(one.seconds, name) for one, name in parts]
        for (one, name), timing in zip(
            parts, interleaved_timings(passes, repeats, warm_up), strict=True
        ):
            one.timings[name] = timing
        for one in held:  # all at once, before any is waited for
            one.worker.dismiss()
        return [one.found() for one in held]
