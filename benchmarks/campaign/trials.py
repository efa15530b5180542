"""A trial in a process of its own, and the file of trials by which a campaign goes on.

The parent imports what is heavy and forks a child for each trial, so that one takes about a second.
It computes nothing itself: threads of its own would be missing in the children.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

GB = 10**9
LIMIT_SECONDS = 60.0
LIMIT_BYTES = 2 * GB
POLL_SECONDS = 0.02
OUTPUTS = ('out.txt', 'err.txt')
# What trainings import as they go, with which children should not begin.
HEAVY = (
    'mmdet.apis', 'mmdet.models', 'mmdet.datasets', 'mmdet.evaluation', 'mmpretrain.models',
    'mmpretrain.datasets', 'mmpretrain.evaluation', 'effvit_mm.openmm.engine.runner',
    'effvit_mm.registry', 'effvit_mm.torchreid', 'pycocotools.coco', 'faster_coco_eval',
)  # fmt: skip


def import_all() -> None:
    """Import what children would."""
    for name in HEAVY:
        importlib.import_module(name)


@dataclass
class Outcome:
    """How a child ended.

    Attributes:
        code: Its exit code; minus the signal's number where one ended it.
        hung: It was ended for taking too long.
        steps: Iterations of training that it began.
        seconds: How long it ran.
        grown: Bytes that its resident memory grew by at most.
        out: What it wrote to standard output.
        err: And to standard error.
    """

    code: int
    hung: bool
    steps: int
    seconds: float
    grown: int
    out: str = field(repr=False)
    err: str = field(repr=False)

    def error_lines(self) -> list[str]:
        """Lines of the product's own errors."""
        return error_lines(self.err)

    def is_traceback(self) -> bool:
        return 'Traceback (most recent call last)' in self.err


def error_lines(text: str) -> list[str]:
    """Lines of the product's own errors: of their words 'error' can be one, as in broken XML."""
    return [line for line in text.splitlines() if line.startswith('error')]


class Counter:
    """A number that a child counts up and its parent reads."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 8)

    def add(self) -> int:
        self.set(self.value + 1)
        return self.value

    def set(self, value: int) -> None:
        self._page[:8] = struct.pack('q', value)

    @property
    def value(self) -> int:
        return struct.unpack('q', self._page[:8])[0]


class Started:
    """A child that runs ``work``, whose current folder is ``folder``.

    Args:
        work: Gives the exit code; it counts its iterations.
        folder: Has ``out.txt`` and ``err.txt`` afterwards.
    """

    def __init__(self, work: Callable[[Counter], int], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.steps, self._began = folder, Counter(), time.monotonic()
        self._status: int | None = None
        self._peak = 0
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()
        self.pid = os.fork()
        if self.pid == 0:
            _child(work, folder, self.steps)
        self._before = resident(self.pid, 'VmRSS')

    def ended(self) -> bool:
        """Whether it has; also looks at its memory."""
        if self._status is None:
            self._peak = max(self._peak, resident(self.pid, 'VmHWM'))
            done, status, _ = os.wait4(self.pid, os.WNOHANG)
            self._status = status if done else None
        return self._status is not None

    def signal(self, number: int) -> None:
        """Send a signal to it and to all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def outcome(self, hung: bool = False) -> Outcome:
        """Wait for its end."""
        while not self.ended():
            time.sleep(POLL_SECONDS)
        self.signal(signal.SIGKILL)  # what it has left
        assert self._status is not None
        texts = [(self.folder / name).read_text(errors='replace') for name in OUTPUTS]
        return Outcome(
            code=os.waitstatus_to_exitcode(self._status), hung=hung, steps=self.steps.value,
            seconds=round(time.monotonic() - self._began, 2),
            grown=max(0, self._peak - self._before), out=texts[0], err=texts[1],
        )  # fmt: skip


def fork(work: Callable[[Counter], int], folder: Path, seconds: float = LIMIT_SECONDS) -> Outcome:
    """Run ``work`` in a child to its end, or for ``seconds``; see :class:`Started`."""
    child, end = Started(work, folder), time.monotonic() + seconds
    while not child.ended() and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    hung = not child.ended()
    if hung:
        child.signal(signal.SIGKILL)
    return child.outcome(hung)


def _child(work: Callable[[Counter], int], folder: Path, steps: Counter) -> None:
    """Never returns: what stands behind the fork is the parent's."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        for number, name in enumerate(OUTPUTS, 1):
            target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(target, number)
        used = resident(os.getpid(), 'VmSize')
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, used + LIMIT_BYTES))
        code = work(steps)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # the trial's outcome, whatever it is
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def resident(pid: int, key: str) -> int:
    """A figure of /proc in bytes; 0 of a process that has just ended."""
    try:
        text = Path(f'/proc/{pid}/status').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = [line for line in text.splitlines() if line.startswith(f'{key}:')]
    return int(found[0].split()[1]) * 1024 if found else 0


@dataclass
class Trial:
    """A line of a campaign's file.

    Attributes:
        index: Number of the trial, which with ``seed`` draws it.
        case: What was done, for people.
        verdict: ``'ran'``, ``'refused'``, ``'took it'`` (another value ran), or a fault.
        said: The line of an error, or the end of what was written.
    """

    index: int
    seed: int
    case: str
    verdict: str
    said: str
    seconds: float
    grown: int

    GOOD = ('ran', 'refused', 'took it')

    @property
    def good(self) -> bool:
        return self.verdict in self.GOOD


def campaign(
    path: Path, seed: int, count: int, seconds: float, run: Callable[[int], Trial]
) -> Iterator[Trial]:
    """The trials of a part; those that the file has are not run again.

    Args:
        path: The file, a line of JSON for each trial.
        seed: With the number of a trial it draws it.
        count: Trials in all.
        seconds: After which no further trial begins.
        run: Runs trial ``index``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {trial.index for trial in read(path) if trial.seed == seed}
    began = time.monotonic()
    with path.open('a') as file:
        for index in range(count):
            if index in known:
                continue
            if time.monotonic() - began > seconds:
                return
            trial = run(index)
            file.write(json.dumps(asdict(trial)) + '\n')
            file.flush()
            yield trial


def read(path: Path) -> list[Trial]:
    """The trials of a file; the newest of each number."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith('}')]
    return list({(row['seed'], row['index']): Trial(**row) for row in rows}.values())


def clear(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
