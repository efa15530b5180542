"""Galleries of made features: filled, opened anew and searched, beside the exact ranking.

Features are clustered as those of re-ID are: a thousand ways to look, people who look so, from 2 to
30 images of each. Blocks are made one by one, so that no more than one is in memory.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.galleries import create_gallery, finish, open_gallery
from effvit_mm.reid.where import Where

from .memory import peak_bytes, reset_peak, resident_bytes

LOOKS, CAMERAS, TOP = 1000, 16, 10
PERSON, IMAGE = 0.7, 0.6  # spread around a look, and around a person
ROWS_AT_ONCE = 65_536
SECONDS = 36_000  # that the images are spread over
NARROW = Where(cameras=(2, 5), begin=0, end=SECONDS / 4)  # 1 of 32
SUFFIX = {'large': '', 'exact': '.gallery', 'approximate': '.gallery'}


class Block(NamedTuple):
    """A part of the images.

    Attributes:
        features: (n, D) float32, of length 1.
        people: (p, D) float32, what the people of the block look like.
        cameras: (n,) int64.
        begin: (n,) float64, seconds.
    """

    features: np.ndarray
    people: np.ndarray
    cameras: np.ndarray
    begin: np.ndarray


def make_block(number: int, rows: int, width: int) -> Block:
    """A block of images, the same whenever it is made."""
    rng = np.random.default_rng([2026, number])
    looks = np.random.default_rng(2026).standard_normal((LOOKS, width), np.float32)
    sizes = rng.integers(2, 31, rows // 2 + 1)
    sizes = sizes[: np.searchsorted(np.cumsum(sizes), rows) + 1]
    people = looks[rng.integers(0, LOOKS, len(sizes))]
    people = people + PERSON * rng.standard_normal(people.shape, np.float32)
    features = np.repeat(people, sizes, axis=0)[:rows]
    features += IMAGE * rng.standard_normal(features.shape, np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return Block(features, people, rng.integers(0, CAMERAS, rows), rng.uniform(0, SECONDS, rows))


def make_blocks(count: int, width: int) -> Iterator[tuple[int, Block]]:
    """Number of the first image and block, ``count`` images in all."""
    for number, start in enumerate(range(0, count, ROWS_AT_ONCE)):
        yield start, make_block(number, min(ROWS_AT_ONCE, count - start), width)


def make_queries(count: int, queries: int, width: int) -> np.ndarray:
    """Further images of people in the gallery: (Q, D) float32."""
    rng = np.random.default_rng(7)
    blocks = -(-count // ROWS_AT_ONCE)
    made = []
    for number in rng.integers(0, blocks, min(queries, 8)):
        people = make_block(int(number), min(ROWS_AT_ONCE, count), width).people
        share = people[rng.integers(0, len(people), -(-queries // min(queries, 8)))]
        made.append(share + IMAGE * rng.standard_normal(share.shape, np.float32))
    return np.concatenate(made)[:queries]


class Nearest:
    """The nearest of all that it is shown, exactly: ``TOP`` of each query."""

    def __init__(self, queries: np.ndarray) -> None:
        self.queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        self.values = np.empty((len(queries), 0), np.float32)
        self.numbers = np.empty((len(queries), 0), np.int64)

    def see(self, numbers: np.ndarray, features: np.ndarray) -> None:
        """Images: (n,) numbers and (n, D) features."""
        values = (torch.as_tensor(self.queries) @ torch.as_tensor(features).T).numpy()
        values = np.concatenate([self.values, values], axis=1)
        shown = np.broadcast_to(numbers, (len(self.queries), len(numbers)))
        numbers = np.concatenate([self.numbers, shown], axis=1)
        best = np.argpartition(-values, min(TOP, values.shape[1]) - 1, axis=1)[:, :TOP]
        self.values = np.take_along_axis(values, best, axis=1)
        self.numbers = np.take_along_axis(numbers, best, axis=1)

    def recall(self, found: np.ndarray) -> float:
        """Share of these that are among (Q, TOP) found ones."""
        pairs = zip(self.numbers, found, strict=True)
        return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in pairs]))


def place_of(folder: str, kind: str, count: int) -> str:
    """Where the gallery is: a database has an index' name before it, ``database exact``."""
    name = kind.replace(' ', '_')
    return str(Path(folder) / f'{name}_{count}{SUFFIX.get(kind, ".db")}')


def fill(
    folder: str, kind: str, count: int, queries: int, threads: int, width: int
) -> dict[str, Any]:
    """Make a gallery; gives times, the peak of memory, the disk it takes, and the exact nearest."""
    torch.set_num_threads(threads)
    place, index = place_of(folder, kind, count), kind.split()[-1]
    remove(place)
    asked = make_queries(count, queries, width)
    before = resident_bytes()
    reset_peak()
    gallery = create_gallery(place, width, index=index)
    everything, narrow = Nearest(asked), Nearest(asked)
    adding = 0.0
    for start, block in make_blocks(count, width):
        rows = len(block.features)
        numbers = np.arange(start, start + rows)
        features = ReIDFeatures(
            block.features,
            np.full(rows, -1),
            block.cameras,
            [f'crops/{number // 1000:05d}/{number:09d}.jpg' for number in numbers],
        )
        begin = time.perf_counter()
        moments = block.begin.tolist()
        gallery.add(features, {'begin': moments, 'end': moments})
        adding += time.perf_counter() - begin
        chosen = NARROW.mask(block.cameras, lambda name, b=block: b.begin, None)
        everything.see(numbers, block.features)
        narrow.see(numbers[chosen], block.features[chosen])
    begin = time.perf_counter()
    finish(gallery, place)
    built = time.perf_counter() - begin
    peak = peak_bytes() - before
    if hasattr(gallery, 'close'):
        gallery.close()
    return {
        'adding': adding,
        'building': built,
        'filling_peak': peak,
        'disk': disk_bytes(place),
        'truth': {'all': everything.numbers.tolist(), 'narrow': narrow.numbers.tolist()},
    }


def ask(
    folder: str,
    kind: str,
    count: int,
    queries: int,
    threads: int,
    width: int,
    truth: dict[str, list],
) -> dict[str, Any]:
    """Open a gallery and search it, a query at a time; gives times, memory and recall."""
    torch.set_num_threads(threads)
    asked = make_queries(count, queries, width)
    before = resident_bytes()
    reset_peak()
    begin = time.perf_counter()
    gallery = open_gallery(place_of(folder, kind, count))
    gallery.search(as_features(asked[:1]), TOP)
    result: dict[str, Any] = {'opening': time.perf_counter() - begin}
    for name, where in (('all', None), ('narrow', NARROW)):
        found, seconds = [], []
        for place in range(len(asked)):
            begin = time.perf_counter()
            numbers, _ = gallery.search(as_features(asked[place : place + 1]), TOP, where=where)
            seconds.append(time.perf_counter() - begin)
            found.append(numbers[0])
        exact = Nearest(asked)
        exact.numbers = np.array(truth[name])
        result |= {
            f'{name}_recall': exact.recall(np.array(found)),
            f'{name}_median': float(np.median(seconds)),
            f'{name}_worst': float(np.quantile(seconds, 0.95)),
        }
    result['searching_peak'] = peak_bytes() - before
    if hasattr(gallery, 'close'):
        gallery.close()
    return result


def as_features(queries: np.ndarray) -> ReIDFeatures:
    """Queries of nobody known."""
    return ReIDFeatures(queries, np.full(len(queries), -1), np.full(len(queries), -1))


def disk_bytes(place: str | Path) -> int:
    """What a file or a folder takes."""
    place = Path(place)
    files = [place] if place.is_file() else [p for p in place.rglob('*') if p.is_file()]
    return sum(file.stat().st_size for file in files)


def remove(place: str | Path) -> None:
    """Take a gallery away."""
    if Path(place).is_dir():
        shutil.rmtree(place)
    else:
        Path(place).unlink(missing_ok=True)
