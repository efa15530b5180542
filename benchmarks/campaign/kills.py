"""Part ``kills``: trainings killed at random moments, or hindered, go on to the very same end.

A trial starts a training in a child (two of them, joined by gloo, for two processes), kills it once
to three times, resumes it each time and compares the last checkpoint with that of the undisturbed
run, value by value. All the while a watcher reads each file that appears under its own name.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import coco_sets
import numpy as np
import torch
import trainer
from people import make_people, write_people_config

from effvit_mm.openmm import cli
from effvit_mm.weights.checkpoint import read_checkpoint, safe_unpickling

from .trials import Counter, Outcome, Started, Trial, clear, import_all

EPOCHS = 5
EXTRA = f"""
train_cfg = dict(by_epoch=True, max_epochs={EPOCHS}, val_interval=1)
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, {{}}))
"""
KEEPING = 'max_keep_ckpts=1', "max_keep_ckpts=2, save_best='auto', rule='greater'", ''
FREE_BLOCKS = 2.6  # checkpoints that the small disk takes
# Every so many trials one of two processes, and one with a hindrance.
PAIR, HINDERED = 4, 3
LIMIT = 120.0  # seconds
KILLED_WORKER, WORKERS = 'killed worker', 2


def make_task(task: str, folder: Path, keeping: str, workers: int) -> None:
    """Data and ``config.py``, with so many workers of the loader."""
    extra, data = EXTRA.format(keeping), folder / 'data'
    if workers:
        extra += f"train_dataloader['num_workers'] = {workers}\n"
    path = folder / 'config.py'
    if task == 'classification':
        trainer.write_config(path, trainer.make_folder(data, 4, 2), extra)
    elif task == 're-ID':
        write_people_config(path, make_people(data, train=8, test=2), extra)
    else:
        coco_sets.make_config(folder, extra).rename(path)


TASKS = 'classification', 'detection', 're-ID'


def train(config: Path, work: str, resume: bool, rank: tuple[int, int, int] | None) -> Callable:
    """What a child does; ``rank`` is its number, how many there are, and a port."""

    def run(steps: Counter) -> int:
        torch.set_num_threads(1)
        count_steps(steps)
        os.chdir(config.parent)  # processes hand each other figures in a folder below their own
        arguments = [str(config), '--work-dir', work, *(['--resume'] if resume else [])]
        if rank is not None:
            names = ('RANK', 'WORLD_SIZE', 'MASTER_PORT')
            os.environ.update({name: str(value) for name, value in zip(names, rank, strict=True)})
            os.environ.update(LOCAL_RANK=str(rank[0]), MASTER_ADDR='127.0.0.1')
            arguments += ['--launcher', 'pytorch']
        return cli.train(arguments)

    return run


def count_steps(steps: Counter) -> None:
    from effvit_mm.openmm.engine.loops import EpochTrainLoop

    inner = EpochTrainLoop.run_iter

    def run_iter(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps.add()
        return inner(self, *args, **kwargs)

    EpochTrainLoop.run_iter = run_iter


# Watching ----------------------------------------------------------------------------------------


class Watcher:
    """Reads what appears in a folder; ``broken`` has what could not be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broken: list[str] = []
        self.read = 0
        self._seen: set[tuple] = set()

    def look(self) -> None:
        if not self.folder.is_dir():
            return
        for path in self.folder.rglob('*'):
            if path.name.startswith('.') or path.suffix not in ('.pth', '.json', ''):
                continue
            try:
                if not path.is_file():
                    continue
                content = path.read_bytes()
                state = path.stat()
            except FileNotFoundError:
                continue  # deleted since
            known = (path, state.st_ino, state.st_mtime_ns, len(content))
            if known not in self._seen:
                self._seen.add(known)
                self._try(path, content)

    def _try(self, path: Path, content: bytes) -> None:
        self.read += 1
        try:
            if path.suffix == '.pth':
                with safe_unpickling():
                    torch.load(io.BytesIO(content), weights_only=True)
            elif path.name == 'last_checkpoint':
                name = content.decode()
                if name and not name.endswith('.pth'):  # nothing: none is written yet
                    raise ValueError(name)
            elif path.suffix == '.json' and path.parent.name != 'vis_data':
                json.loads(content)
            elif path.suffix == '.json' and 'scalars' not in path.name:  # a log, line by line
                for line in content.decode().splitlines()[:-1]:
                    json.loads(line)
        except Exception as error:  # whatever is wrong with it is the finding
            self.broken.append(f'{path.name}: {error}')


# Comparing ---------------------------------------------------------------------------------------


def last_content(work: Path) -> dict:
    """What counts of the last checkpoint of a run."""
    content = read_checkpoint(work / f'epoch_{EPOCHS}.pth')
    runtime = content['message_hub']['runtime_info']
    meta = {key: content['meta'][key] for key in ('epoch', 'iter', 'seed')}
    kept = {key: value for key, value in content.items() if key not in ('meta', 'message_hub')}
    return {**kept, 'meta': meta, 'losses': runtime['effvit_mm/losses']}


def differences(one: Any, other: Any, path: str = '') -> Iterator[str]:
    """Keys below which two contents are not the same to the bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() ^ other.keys():
            yield f'{path}.{key} is in one alone'
        for key in one.keys() & other.keys():
            yield from differences(one[key], other[key], f'{path}.{key}')
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield f'{path}: {len(one)} and {len(other)} values'
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from differences(*pair, f'{path}[{index}]')
    elif isinstance(one, torch.Tensor):
        if not torch.equal(one, other):
            yield path
    elif isinstance(one, np.ndarray):
        if not np.array_equal(one, other):
            yield path
    elif one != other:
        yield f'{path}: {one!r:.40} and {other!r:.40}'


# Running -----------------------------------------------------------------------------------------


class Run:
    """One start of a training of one or two processes."""

    def __init__(self, folder: Path, work: str, resume: bool, pair: bool, before: Callable) -> None:
        port = free_port()
        ranks = [(rank, 2, port) for rank in range(2)] if pair else [None]
        self.children = []
        for number, rank in enumerate(ranks):
            own = train(folder / 'config.py', str(folder / work), resume, rank)
            place = folder / f'process{number}'
            self.children.append(Started(lambda steps, own=own: before() or own(steps), place))

    def wait(self, watcher: Watcher, steps: int | None = None, seconds: float = LIMIT) -> bool:
        """Look on for some time, or until so many steps are done; whether it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and (steps is None or self.steps() < steps):
            watcher.look()
            if all(child.ended() for child in self.children):
                return True
            time.sleep(0.005)
        return False

    def steps(self) -> int:
        return min(child.steps.value for child in self.children)

    def end(self, number: int = signal.SIGKILL) -> list[Outcome]:
        for child in self.children:
            child.signal(number)
        return [child.outcome() for child in self.children]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def nothing() -> None:
    """Before a training that nothing hinders."""


class Reference(NamedTuple):
    """The undisturbed run of a task: what its last checkpoint has, and seconds of its steps."""

    content: dict
    seconds: float


class FaultError(Exception):
    """A trial's fault: its name and what was said."""


class Part:
    """Trials of kills and hindrances; references are trained when they are first asked for."""

    def __init__(self, folder: Path, seed: int) -> None:
        import_all()
        self.folder, self.seed = folder, seed
        self._references: dict[tuple, Reference] = {}

    def reference(self, task: str, keeping: str, pair: bool, workers: int) -> Reference:
        known = (task, keeping, pair, workers)
        if known not in self._references:
            place = clear(self.folder / 'undisturbed')
            make_task(task, place, keeping, workers)
            run = Run(place, 'w', False, pair, nothing)
            watcher = Watcher(place / 'w')
            run.wait(watcher, steps=1)
            began = time.monotonic()
            run.wait(watcher)
            seconds = time.monotonic() - began
            for outcome in run.end():
                if outcome.code:
                    raise RuntimeError(f'undisturbed {known}: {outcome.err[-2000:]}')
            self._references[known] = Reference(last_content(place / 'w'), seconds)
        return self._references[known]

    def __call__(self, index: int) -> Trial:
        draw = random.Random(f'{self.seed}/{index}')
        task, keeping = draw.choice(TASKS), draw.choice(KEEPING)
        pair = index % PAIR == PAIR - 1
        hindrance = None
        if index % HINDERED == HINDERED - 1 and not pair:
            hindrance = draw.choice(list(HINDRANCES))
            keeping = ''
        case = f'{task}, {2 if pair else 1} processes, {keeping or "all kept"}'
        began = time.monotonic()
        workers = WORKERS if hindrance == KILLED_WORKER else 0
        reference = self.reference(task, keeping, pair, workers)
        place = clear(self.folder / 'trial')
        watcher = Watcher(place / 'w')
        make_task(task, place, keeping, workers)
        try:
            if hindrance is None:
                case += f', {self._kill(place, watcher, pair, reference, draw)}'
            else:
                case += f', {hindrance}'
                self._hinder(HINDRANCES[hindrance], place, watcher, reference)
            verdict, said = self._compare(place, watcher, reference)
        except FaultError as error:
            verdict, said = error.args
        return Trial(
            index, self.seed, case, verdict, said, round(time.monotonic() - began, 1), 0
        )  # fmt: skip

    def _kill(self, place: Path, watcher: Watcher, pair: bool, reference: Reference, draw) -> str:
        """Kill and resume, at last to the end; gives how often it was killed."""
        done: list[int] = []
        for _ in range(draw.choice((1, 1, 2, 3))):
            run = Run(place, 'w', (place / 'w').exists(), pair, nothing)
            if draw.random() < 0.15:  # as it begins
                ended = run.wait(watcher, seconds=draw.uniform(0, 1))
            else:
                ended = run.wait(watcher, steps=1)
                ended = ended or run.wait(watcher, seconds=draw.uniform(0, reference.seconds))
            steps, outcomes = run.steps(), run.end()
            if ended:
                self._need_good(outcomes)
            else:
                done.append(steps)
            watcher.look()
        run = Run(place, 'w', (place / 'w').exists(), pair, nothing)
        run.wait(watcher)
        self._need_good(run.end())
        return f'killed {len(done)} times, after steps {done}'

    def _hinder(self, hindrance: Any, place: Path, watcher: Watcher, reference: Reference) -> None:
        """Let it run into something, see one line, take it away and resume."""
        with hindrance(place) as (before, act, codes, words):
            run = Run(place, 'w', False, False, before)
            run.wait(watcher, steps=5)
            act(run)
            ended = run.wait(watcher, seconds=60)
            (outcome,) = run.end()
            watcher.look()
        lines = outcome.error_lines()
        if not ended:
            raise FaultError('hang', '')
        if outcome.is_traceback() or outcome.code not in codes:
            raise FaultError('traceback', f'{outcome.code}: {outcome.err[-300:]}')
        if outcome.code and (len(lines) != 1 or not any(word in lines[0] for word in words)):
            raise FaultError('vague', ' | '.join(lines))
        if outcome.code:
            run = Run(place, 'w', True, False, nothing)
            run.wait(watcher)
            self._need_good(run.end())

    def _need_good(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.code:
                raise FaultError('not resumed', f'{outcome.code}: {outcome.err[-300:]}')

    def _compare(self, place: Path, watcher: Watcher, reference: Reference) -> tuple[str, str]:
        watcher.look()
        if watcher.broken:
            return 'broken file', '; '.join(watcher.broken[:3])
        different = list(differences(reference.content, last_content(place / 'w')))
        if different:
            return 'another end', '; '.join(different[:3])
        return 'ran', f'{watcher.read} files read'


# Hindrances --------------------------------------------------------------------------------------
# Each gives what the child does first, what happens in mid-run, exit codes, words of the line.


@contextmanager
def full_disk(place: Path) -> Iterator[tuple]:
    """A small tmpfs as work folder; afterwards it is large."""
    work = place / 'w'
    work.mkdir()
    size = max(path.stat().st_size for path in (place.parent / 'undisturbed/w').glob('*.pth'))
    mounted('-t', 'tmpfs', '-o', f'size={int(FREE_BLOCKS * size)}', 'tmpfs', str(work))
    try:
        yield nothing, lambda run: None, (2,), ('No space left',)
        mounted('-o', 'remount,size=1g', str(work))
        shutil.copytree(work, place / 'kept')
    finally:
        subprocess.run(['umount', '-l', str(work)], check=True)
    work.rmdir()
    (place / 'kept').rename(work)


@contextmanager
def read_only(place: Path) -> Iterator[tuple]:
    """The work folder cannot be written from the middle of the run on."""
    work = str(place / 'w')

    def act(run: Run) -> None:
        mounted('--bind', work, work)
        mounted('-o', 'remount,bind,ro', work)

    try:
        yield nothing, act, (2,), ('Read-only file system',)
    finally:
        subprocess.run(['umount', '-l', work], check=True)


def mounted(*arguments: str) -> None:
    subprocess.run(['mount', *arguments], check=True)


@contextmanager
def vanished(place: Path) -> Iterator[tuple]:
    """A picture of the training set goes, and comes back."""
    path = max(p for p in (place / 'data').rglob('*.png') if 'test' not in p.parts[-2])
    path = next(iter(sorted((place / 'data').glob('train/*/*.png'))), path)
    aside = place / 'aside'
    yield nothing, lambda run: path.rename(aside), (2,), (path.name,)
    aside.rename(path)


@contextmanager
def killed_worker(place: Path) -> Iterator[tuple]:
    """One of the loader's workers is killed, as by the kernel where memory is short."""

    def act(run: Run) -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if children := child_pids(run.children[0].pid):
                os.kill(children[0], signal.SIGKILL)
                return

    yield nothing, act, (2, 0), ('worker',)  # 0: it had sent all that it had


def child_pids(pid: int) -> list[int]:
    try:
        text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in text.split()]


def without_sync(error: int) -> Callable:
    """``os.fsync`` raises: a file system that has none, or a disk that fails."""

    @contextmanager
    def hindrance(place: Path) -> Iterator[tuple]:
        def before() -> None:
            def fsync(descriptor: int) -> None:
                raise OSError(error, os.strerror(error))

            os.fsync = fsync

        fails = error == 5
        yield before, lambda run: None, (2,) if fails else (0,), (os.strerror(error),)

    return hindrance


HINDRANCES: dict[str, Callable] = {
    'full disk': full_disk,
    'read-only folder': read_only,
    'vanished picture': vanished,
    KILLED_WORKER: killed_worker,
    'no fsync': without_sync(22),
    'fsync fails': without_sync(5),
}
