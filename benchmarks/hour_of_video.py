"""An hour of video indexed for person search: speed, memory, and what two kills change.

``python -m benchmarks.hour_of_video --films SEARCH --out DIR --detector CONFIG FILE --reid CONFIG
FILE [...]`` loops the films of ``walker_scenes`` as one video of 640 x 480 at 15 frames a second
and gives all further flags to ``person_search.py index``: once undisturbed, and once killed after a
third and after two thirds of the frames and resumed. All files of both must be equal; where they
are not, it ends with 1.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from effvit_mm.inference.videos import Video

TOOL = Path(__file__).parents[1] / 'tools' / 'person_search.py'
SIZE, FPS = (640, 480), 15
RUNS = ('whole', 'killed')
PAUSE = 0.5  # seconds between two looks at a run


def make_video(films: Path, path: Path, minutes: float) -> int:
    """Loop the films, one behind the other, at their own pace; gives the number of frames."""
    count = round(60 * FPS * minutes)
    parts = [Video(film) for film in sorted(films.glob('*/*.avi'))]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), FPS, SIZE)
    for image in itertools.islice(repeated(itertools.cycle(parts)), count):
        writer.write(image)
    writer.release()
    return count


def repeated(parts: Iterable[Video]) -> Iterator[np.ndarray]:
    """Frames in the new size and rate, some twice."""
    for part in parts:
        due = 0.0  # frames of this rate that the film has reached
        for image in part:
            due += FPS / part.fps
            large = cv2.resize(image.array, SIZE, interpolation=cv2.INTER_CUBIC)
            while due >= 1:
                yield large
                due -= 1


class Run(NamedTuple):
    """What one call took: seconds, seconds of processor time, and bytes at its peak."""

    seconds: float
    processor: float
    peak: int


def index(video: Path, out: Path, flags: Sequence[str], resume: bool, kill_at: int | None) -> Run:
    """Index until it ends, or kill it as soon as the boxes of so many frames are written.

    Raises:
        SystemExit: It failed, or ended before it was to be killed.
    """
    command = [sys.executable, str(TOOL), 'index', str(video), '--out', str(out), *flags]
    command.append('--resume' if resume else '--overwrite')
    boxes = out / 'work' / video.stem / 'detections.jsonl'
    start = time.perf_counter()
    process = subprocess.Popen(command)
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        if kill_at is not None and count_lines(boxes) >= kill_at:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(PAUSE)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (0 if kill_at is None else -signal.SIGKILL):
        raise SystemExit(f'{" ".join(command)} ended with {process.returncode}')
    seconds = time.perf_counter() - start
    return Run(seconds, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss)


def count_lines(path: Path) -> int:
    """Of a file; 0 where there is none."""
    if not path.is_file():
        return 0
    with path.open('rb') as file:
        return sum(1 for _ in file)


def compare(folders: Sequence[Path], name: str) -> str:
    """Which files of two runs are equal to the last byte, in one line."""

    def contents(folder: Path) -> dict[str, list[bytes]]:
        pictures = sorted((folder / 'work' / name / 'pictures').glob('*.jpg'))
        files = [folder / 'gallery'], [folder / 'tracks' / f'{name}.txt'], pictures
        read = [[path.name.encode() + path.read_bytes() for path in paths] for paths in files]
        return dict(zip(('gallery', 'tracks', 'pictures'), read, strict=True))

    first, second = map(contents, folders)
    return ', '.join(
        f'{kind} ({len(first[kind])}) {"equal" if first[kind] == second[kind] else "NOT EQUAL"}'
        for kind in first
    )


def measure(video: Path, out: Path, flags: Sequence[str], killed: bool) -> str:
    """Index a video into a folder that begins anew, and say in one line what it took."""
    frames = Video(video).frames
    every = int(flags[flags.index('--every') + 1]) if '--every' in flags else 1
    kills = [third * frames // (3 * every) for third in (1, 2)] if killed else []
    found = [
        index(video, out, flags, number > 0, kill_at)
        for number, kill_at in enumerate([*kills, None])
    ]
    seconds = sum(part.seconds for part in found)
    processor = sum(part.processor for part in found)
    parts = ', '.join(f'{part.seconds:.0f} s' for part in found)
    peaks = ', '.join(f'{part.peak / 2**20:.0f}' for part in found)
    return (
        f'{out.name}: {frames} frames, {frames / seconds:.1f} a second ({parts}), '
        f'{frames / processor:.1f} a second of processor time ({processor:.0f} s), '
        f'peak memory {peaks} MiB'
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--films', type=Path, required=True, help='search of walker_scenes')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--minutes', type=float, default=60, help='of a video not yet there (60)')
    parser.add_argument('--runs', nargs='+', default=RUNS, choices=RUNS)
    args, flags = parser.parse_known_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    video = args.out / 'hour.mp4'
    if not video.is_file():
        making = video.with_name('making.mp4')
        make_video(args.films, making, args.minutes)
        making.replace(video)
    for run in args.runs:
        told = measure(video, args.out / run, flags, killed=run == 'killed')
        load = ', '.join(f'{value:.1f}' for value in os.getloadavg())
        print(f'{told}; load averages {load}', flush=True)
    told = ''
    if all((args.out / run / 'gallery').is_file() for run in RUNS):
        told = compare([args.out / run for run in RUNS], video.stem)
        print(told)
    return int('NOT EQUAL' in told)


if __name__ == '__main__':
    sys.exit(main())
