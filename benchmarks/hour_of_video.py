"""An hour of video indexed for person search: speed, memory, and what two kills change.

``python -m benchmarks.hour_of_video --films SEARCH --out DIR --detector CONFIG FILE --reid CONFIG
FILE [...]`` loops the films of ``walker_scenes`` as one video of 640 x 480 at 15 frames a second
and gives all further flags to ``person_search.py index``: once undisturbed, and once killed after a
third and after two thirds of the frames and resumed. All files of both must be equal.
"""

from __future__ import annotations

import argparse
import itertools
import resource
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


def index(video: Path, out: Path, flags: Sequence[str], kill_at: int | None) -> Run:
    """Index until it ends, or kill it as soon as it has written so many lines."""
    command = [
        sys.executable,
        str(TOOL),
        'index',
        str(video),
        '--out',
        str(out),
        '--resume',
        *flags,
    ]
    lines = out / 'work' / video.stem / 'detections.jsonl'
    start, used, peak = time.perf_counter(), processor_time(), 0
    process = subprocess.Popen(command)
    while process.poll() is None:
        peak = max(peak, peak_memory(process.pid))
        if kill_at is not None and lines.is_file() and count_lines(lines) >= kill_at:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(1)
    if process.returncode != (0 if kill_at is None else -signal.SIGKILL):
        raise SystemExit(f'{command} ended with {process.returncode}')
    return Run(time.perf_counter() - start, processor_time() - used, peak)


def processor_time() -> float:
    """Seconds that the processes which this one started, and which ended, have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_memory(pid: int) -> int:
    """The most that a running process has held, in bytes; 0 where it has ended."""
    try:
        status = Path(f'/proc/{pid}/status').read_text()
    except OSError:
        return 0
    rows = dict(line.split(':', 1) for line in status.splitlines())
    return 1024 * int(rows.get('VmHWM', '0 kB').split()[0])


def count_lines(path: Path) -> int:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--films', type=Path, required=True, help='search of walker_scenes')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--minutes', type=float, default=60)
    parser.add_argument(
        '--runs', nargs='+', default=['whole', 'killed'], choices=('whole', 'killed')
    )
    args, flags = parser.parse_known_args()
    args.out.mkdir(parents=True, exist_ok=True)
    video = args.out / 'hour.mp4'
    if not video.is_file():
        making = video.with_name('making.mp4')
        make_video(args.films, making, args.minutes)
        making.replace(video)
    frames = Video(video).frames
    for run in args.runs:
        steps = [None] if run == 'whole' else [1, 2, None]
        every = int(flags[flags.index('--every') + 1]) if '--every' in flags else 1
        found = [
            index(video, args.out / run, flags, step and step * frames // (3 * every))
            for step in steps
        ]
        seconds = sum(part.seconds for part in found)
        processor = sum(part.processor for part in found)
        peak = max(part.peak for part in found)
        parts = ', '.join(f'{part.seconds:.0f} s' for part in found)
        print(
            f'{run}: {frames} frames, {frames / seconds:.1f} a second ({parts}), '
            f'{frames / processor:.1f} a second of processor time, '
            f'peak memory {peak / 2**20:.0f} MiB'
        )
    if all((args.out / run / 'gallery').is_file() for run in ('whole', 'killed')):
        print(compare([args.out / run for run in ('whole', 'killed')], video.stem))


if __name__ == '__main__':
    main()
