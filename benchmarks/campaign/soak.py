"""Part ``soak``: resident memory, open files and workers of long runs stay as they are.

Trial 0 trains, validates and writes checkpoints in a loop, trial 1 detects in a stream of pictures.
Each runs for ``SOAK_SECONDS`` (an hour), in a child whose memory its parent reads.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coco_sets
import numpy as np
import small_detectors
import torch
from mmengine.config import Config

import effvit_mm
from effvit_mm.openmm import cli

from .kills import count_steps
from .trials import Counter as Steps
from .trials import Started, Trial, clear, import_all, resident

SOAK_SECONDS = float(os.environ.get('SOAK_SECONDS', '3600'))
SHARED = '/dev/shm/torch'  # tensors that a worker made
WARM_UP, GROWTH = 0.25, 0.02  # share of the time; share of the memory
EXTRA = """
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=2))
train_cfg = dict(max_epochs=1000000, val_interval=1)
train_dataloader['num_workers'] = val_dataloader['num_workers'] = 1
"""


class Done(BaseException):
    """The time is up."""


def train(steps: Steps) -> int:
    """Train a detector, with a worker, until the time is up; then count what is left."""
    from effvit_mm.openmm.engine.loops import EpochTrainLoop

    torch.set_num_threads(1)
    config = coco_sets.make_config(Path().absolute(), EXTRA)
    count_steps(steps)
    end, inner = time.monotonic() + SOAK_SECONDS, EpochTrainLoop.run_iter
    files: Counter[str] = Counter()

    def run_iter(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.epoch == 1:  # with a batch in hand, as at the end; fonts are open for the curves
            files.update(open_files() - files)
        if time.monotonic() > end:
            raise Done
        return inner(self, *args, **kwargs)

    EpochTrainLoop.run_iter = run_iter
    try:
        cli.train([str(config), '--work-dir', 'w'])
    except Done:
        return leftovers(files)
    return 1


def detect(steps: Steps) -> int:
    """``Detector.stream`` over pictures of some sizes until the time is up."""
    torch.set_num_threads(1)
    data = Path('data').absolute()
    coco_sets.make_coco(data)
    config = coco_sets.write_config(Path('c.py'), data)
    config.write_text(config.read_text() + small_detectors.EXTRA)
    weights = small_detectors.save_checkpoint(Config.fromfile('c.py'), 'w.pth')
    detector = effvit_mm.Detector('c.py', weights)
    end = time.monotonic() + SOAK_SECONDS
    generator = np.random.default_rng(0)

    def pictures() -> Iterator[np.ndarray]:
        while time.monotonic() < end:
            height, width = generator.integers(40, 120, 2)
            yield generator.integers(0, 255, (height, width, 3), dtype=np.uint8)

    files = open_files()
    for _ in detector.stream(pictures()):
        steps.add()
    return leftovers(files)


def open_files() -> Counter[str]:
    """What file descriptors of this process stand for; pipes, sockets, shared tensors by kind."""
    found: Counter[str] = Counter()
    for entry in Path('/proc/self/fd').iterdir():
        try:
            name = os.readlink(entry).split(':')[0]
        except FileNotFoundError:
            continue  # that of the listing itself
        found[SHARED if name.startswith(SHARED) else name] += 1
    return found


def leftovers(files: Counter[str]) -> int:
    """0 where no worker is left, and no more files than there were; names them else."""
    task = f'/proc/self/task/{os.getpid()}/children'
    workers, more = Path(task).read_text().split(), sorted(open_files() - files)
    logs = [name for name in more if name.endswith(('.log', '.json'))]  # mmengine's, to the end
    more = [name for name in more if name not in logs]
    if workers or more:
        print(f'left: workers {workers}, files {more}')
    return 3 if workers or more else 0


WORKS = {'training': train, 'Detector.stream': detect}


class Part:
    """The two long runs."""

    def __init__(self, folder: Path, seed: int) -> None:
        import_all()
        self.folder, self.seed = folder, seed

    def __call__(self, index: int) -> Trial:
        name = list(WORKS)[index % len(WORKS)]
        child = Started(WORKS[name], clear(self.folder / name))
        sizes: list[tuple[float, int]] = []
        began = time.monotonic()
        while not child.ended() and time.monotonic() - began < 2 * SOAK_SECONDS + 60:
            sizes.append((time.monotonic() - began, resident(child.pid, 'VmRSS')))
            time.sleep(SOAK_SECONDS / 400)
        outcome = child.outcome()
        case = f'{name}, {SOAK_SECONDS:g} s, {outcome.steps} steps or pictures'
        verdict, said = judge(sizes, outcome.code)
        if outcome.code:
            said += ' ' + (outcome.out + outcome.err)[-300:]
        return Trial(index, self.seed, case, verdict, said, outcome.seconds, outcome.grown)


def judge(sizes: list[tuple[float, int]], code: int) -> tuple[str, str]:
    """The medians of the quarter after the warm-up and of the last one differ by 2 % at most."""
    if code not in (0, 3):
        return 'traceback', f'exit code {code}'
    end = sizes[-1][0]
    first = [size for at, size in sizes if WARM_UP * end < at <= 2 * WARM_UP * end]
    last = [size for at, size in sizes if at > (1 - WARM_UP) * end and size]
    before, after = statistics.median(first), statistics.median(last)
    said = f'{before / 1e6:.1f} MB, then {after / 1e6:.1f} MB ({after / before - 1:+.2%})'
    if code:
        return 'leftovers', said
    return ('ran' if after <= before * (1 + GROWTH) else 'growing'), said
