"""Processes of workloads, called alternately.

Each workload has a process of its own: its memory is its own, it may be of another version of
effvit_mm, and where it breaks the others go on. While one runs, the others wait without using the
processor.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NamedTuple

from effvit_mm.utils import allocator

from .isolation import FailedError
from .timing import Timing, time_alternately
from .workload import Workload

PROGRAMS = Path(__file__).resolve().parents[1]
TREE = PROGRAMS.parent
# Freed memory is kept, as tools/train.py does by keep_freed_memory(): glibc reads these.
MEMORY_SETTINGS = {
    'MALLOC_MMAP_THRESHOLD_': str(allocator.LARGEST_KEPT),
    'MALLOC_TRIM_THRESHOLD_': str(allocator.NEVER),
    'MALLOC_TOP_PAD_': str(allocator.TOP_PAD),
}
GRACE_SECONDS = 5
# Before a pass, in seconds. OpenMP's threads look out for more work for a while, on a whole core,
# before they sleep: those of the process that ran last must have done so.
PAUSE = 0.05


class MeasuringProcess:
    """A process that answers questions; the functions of :mod:`.costs` are those.

    Args:
        tree: Folder whose ``effvit_mm`` it uses; this one's where it is None.
    """

    def __init__(self, tree: str | None = None) -> None:
        self._ours, theirs = Pipe()
        descriptor = theirs.fileno()
        folders = [str(Path(tree or TREE).resolve()), *os.environ.get('PYTHONPATH', '').split(':')]
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'measure.process', str(descriptor), os.getcwd()],
            cwd=PROGRAMS,
            env={**os.environ, **MEMORY_SETTINGS, 'PYTHONPATH': ':'.join(filter(None, folders))},
            pass_fds=[descriptor],
            stdout=subprocess.DEVNULL,  # libraries talk; what went wrong comes through the pipe
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the one who asks
        )
        theirs.close()

    def ask(self, question: str, *arguments: Any) -> Any:
        """Call a function of :mod:`.costs` there; tuples with names arrive without them.

        Raises:
            FailedError: It raised, or the process has ended.
        """
        try:
            plain = (tuple(a) if isinstance(a, tuple) else a for a in arguments)
            self._ours.send((question, *plain))
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


class Outcome(NamedTuple):
    """What was measured of a workload, or what went wrong.

    Attributes:
        costs: ``{part: (memory, process, multiply-adds, parameters)}``: bytes and numbers.
        timings: ``{part: seconds of a batch}``.
        conversion: Seconds that making a runtime's file took; None where none was made.
        error: What went wrong; empty, or all else is.
        details: Its traceback.
    """

    costs: dict[str, tuple[int, int, int, int]]
    timings: dict[str, Timing]
    conversion: float | None = None
    error: str = ''
    details: str = ''


class RunningWorkload:
    """A workload and its process; after a failure that is asked no more.

    Args:
        start: Starts a process which measures.
        workload: What.
        threads: Of PyTorch and the runtimes.
    """

    def __init__(
        self, start: Callable[[], MeasuringProcess], workload: Workload, threads: int
    ) -> None:
        self.process = start()
        self.failure: FailedError | None = None
        self.conversion: float | None = None
        if workload.runtime is not None:
            self.conversion = self._ask('convert', workload, threads)
            self.process.close()  # with what converting has left in its memory
            self.process = start()
        self.costs: dict[str, tuple] = self._ask('begin', workload, threads) or {}
        self.timings: dict[str, Timing] = {}

    def _ask(self, *question: Any) -> Any:
        if self.failure is None:
            try:
                return self.process.ask(*question)
            except FailedError as error:
                self.failure = error
        return None

    def seconds(self, part: str) -> float:
        """Of one pass; NaN after a failure."""
        time.sleep(PAUSE)
        seconds = self._ask('seconds', part)
        return math.nan if seconds is None else seconds

    def outcome(self) -> Outcome:
        """What was measured."""
        if self.failure is not None:
            return Outcome({}, {}, None, str(self.failure), self.failure.details)
        return Outcome(self.costs, self.timings, self.conversion)

    def __str__(self) -> str:
        """How far it is."""
        if self.failure is not None:
            return str(self.failure)
        return 'ready' + (f', converted in {self.conversion:.1f} s' if self.conversion else '')


def measure_alternately(
    workloads: Sequence[tuple[Workload, str | None]],
    threads: int,
    repeats: int = 20,
    warm_up: int = 2,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """Start a process for each workload, one after another, then time all alternately, A B A B ...

    Args:
        workloads: Each with the folder whose ``effvit_mm`` it is to use, None for this one.
        threads: Of PyTorch and the runtimes, in each process.
        repeats: Timed passes of each part.
        warm_up: Passes of each before those.
        tell: Called with a line on what was done.
    """
    with ExitStack() as stack:

        def start(tree: str | None) -> MeasuringProcess:
            process = MeasuringProcess(tree)
            stack.callback(process.close)
            return process

        running = []
        for workload, tree in workloads:
            running.append(RunningWorkload(partial(start, tree), workload, threads))
            tell(f'{workload}: {running[-1]}')
        parts = [(one, name) for one in running for name in one.costs]
        passes = [partial(one.seconds, name) for one, name in parts]
        timings = time_alternately(passes, repeats, warm_up)
        for (one, name), timing in zip(parts, timings, strict=True):
            one.timings[name] = timing
        for one in running:  # all at once, before any is waited for
            one.process.dismiss()
        return [one.outcome() for one in running]
