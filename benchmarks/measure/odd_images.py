"""A folder of photographs some of which are broken or odd, and commands that are killed on it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ORIENTATION = 0x0112  # the EXIF tag; 6 is turned by a right angle
EVERY = 10  # one of so many is odd
NAMED = re.compile(r'^warning: .*?(\d{6}\.\w+)', re.MULTILINE)


def photograph(number: int) -> np.ndarray:
    """(36, 48, 3) uint8: spots of colour, of each number others."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (48, 36), interpolation=cv2.INTER_CUBIC)


def _by_pillow(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _rgb(number: int) -> Image.Image:
    return Image.fromarray(photograph(number))


def _turned(number: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return _by_pillow(_rgb(number), 'JPEG', exif=exif)


def _transparent(number: int) -> bytes:
    return _by_pillow(_rgb(number).convert('P'), 'PNG', transparency=bytes(range(256)))


def _deep(number: int) -> bytes:
    grey = photograph(number)[..., 0].astype(np.uint16) * 257
    return cv2.imencode('.png', grey)[1].tobytes()


def _noise(height: int, width: int, number: int) -> bytes:
    generator = np.random.default_rng(number)
    return _by_pillow(
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)), 'PNG'
    )


# What an odd file has in it, by its number, and how its name ends.
ODD: dict[str, tuple[Callable[[int], bytes], str]] = {
    'cut short': (lambda n: _by_pillow(_rgb(n), 'JPEG')[:-200], 'jpg'),
    'zero bytes': (lambda n: b'', 'jpg'),
    'text': (lambda n: b'this is no image\n' * 9, 'jpg'),
    '16-bit grey': (_deep, 'png'),
    'CMYK': (lambda n: _by_pillow(_rgb(n).convert('CMYK'), 'JPEG'), 'jpg'),
    'palette with alpha': (_transparent, 'png'),
    'EXIF-turned': (_turned, 'jpg'),
    '1x1': (lambda n: _noise(1, 1, n), 'png'),
    '20000x3': (lambda n: _noise(3, 20000, n), 'png'),
    'PNG cut short': (lambda n: _noise(36, 48, n)[:900], 'png'),
}


def make_folder(folder: Path, count: int) -> dict[str, str]:
    """``count`` files, ``000000.png`` on, every tenth of them odd; gives the kinds of these."""
    folder.mkdir(parents=True)
    kinds = list(ODD)
    odd = {}
    for number in range(count):
        if number % EVERY == EVERY // 2:
            kind = kinds[number // EVERY % len(kinds)]
            make, suffix = ODD[kind]
            name, data = f'{number:06d}.{suffix}', make(number)
            odd[name] = kind
        else:
            name = f'{number:06d}.png'
            data = cv2.imencode('.png', photograph(number))[1].tobytes()
        (folder / name).write_bytes(data)
    return odd


class Outcome(NamedTuple):
    """Of a command.

    Attributes:
        code: How it ended; below 0 by a signal.
        named: Files that its standard error names.
        seconds: It took.
        errors: That standard error.
    """

    code: int
    named: list[str]
    seconds: float
    errors: str


def run_tool(
    tool: str, arguments: Sequence[object], killed_at: int = 0, watched: str = ''
) -> Outcome:
    """A program of ``tools/`` as a process of its own.

    Args:
        tool: ``'classify'``.
        arguments: Of its command line.
        killed_at: Kill it by SIGKILL once a file has so many lines; 0: let it end.
        watched: That file.
    """
    command = [sys.executable, str(ROOT / 'tools' / f'{tool}.py'), *map(str, arguments)]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    while killed_at and process.poll() is None:
        if count_lines(Path(watched)) >= killed_at:
            process.kill()
            break
        time.sleep(0.002)
    _, errors = process.communicate()
    named = NAMED.findall(errors)
    return Outcome(process.returncode, named, time.perf_counter() - start, errors)


def count_lines(path: Path) -> int:
    """Of a file; 0 where there is none."""
    return path.read_bytes().count(b'\n') if path.is_file() else 0
