"""Leaving corrupt images out of a data set, once and for all splits, samplers and metrics alike.

``skip_corrupt=True`` decodes every file when the data set is built. That costs a pass over the
data, but only the first one: the outcome is kept in the user's cache folder until a file changes.
In return the data set really has no such images: lengths, class counts, evaluation on several
ranks and resumed trainings are right without further ado.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from mmengine import dist
from mmengine.logging import MMLogger, print_log

from ...errors import DataError, UserError
from ...sample_data.digit_images import SPLITS
from ...utils.files import write_text
from ...utils.images import load_image

PROGRESS_SECONDS = 30
CHUNK = 512
MAX_NAMED = 20


def find_corrupt(paths: Sequence[str], name: str = 'data set') -> dict[str, str]:
    """Decode all files; ``{path: what is wrong}`` of those that cannot be.

    With several ranks each decodes its part and all get the whole answer.
    """
    cache = _cache_file(paths)
    known = _read_cache(cache)
    rank, world_size = dist.get_rank(), dist.get_world_size()
    part = {} if known is not None else _scan(paths[rank::world_size], name)
    # Every rank takes part here, whether its machine had the cached answer or not.
    faults: dict[str, str] = {}
    for found in dist.all_gather_object(part if known is None else known):
        faults.update(found)
    if known is None:
        _write_cache(cache, faults)
    return {path: faults[path] for path in paths if path in faults}


def map_files(
    read: Callable[[str], tuple[int, int]], paths: Sequence[str]
) -> Iterator[tuple[int, int] | str]:
    """What ``read`` gives of each file, or what is wrong with it."""

    def attempt(path: str) -> tuple[int, int] | str:
        try:
            return read(path)
        except DataError as error:
            return str(error)

    # Threads do: decoding leaves Python's lock free.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for begin in range(0, len(paths), CHUNK):
            yield from pool.map(attempt, paths[begin : begin + CHUNK])


def decoded_size(path: str) -> tuple[int, int]:
    """Height and width of an image that is decoded, to see that it can be."""
    return load_image(path).shape[:2]


def _scan(paths: Sequence[str], name: str) -> dict[str, str]:
    faults: dict[str, str] = {}
    start = last = time.monotonic()
    for done, (path, fault) in enumerate(
        zip(paths, map_files(decoded_size, paths), strict=True), 1
    ):
        if isinstance(fault, str):
            faults[path] = fault
        now = time.monotonic()
        if now - last > PROGRESS_SECONDS:
            left = (now - start) / done * (len(paths) - done)
            print_log(
                f'{name}: {done} of {len(paths)} images checked, {len(faults)} corrupt, '
                f'{left / 60:.0f} min left',
                'current',
            )
            last = now
    return faults


def _cache_file(paths: Sequence[str]) -> Path:
    """One file for each set of paths, sizes and times: a changed image is checked again."""
    digest = hashlib.sha256()
    for path in paths:
        absolute = os.path.abspath(path)
        try:
            status = os.stat(absolute)
            digest.update(f'{absolute}\0{status.st_size}\0{status.st_mtime_ns}\n'.encode())
        except OSError as error:
            digest.update(f'{absolute}\0{error.errno}\n'.encode())
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'effvit_mm' / 'scans' / f'{digest.hexdigest()[:32]}.json'


def _read_cache(file: Path) -> dict[str, str] | None:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return None  # no answer kept, or an unreadable one: check again
    return content if isinstance(content, dict) else None


def _write_cache(file: Path, faults: dict[str, str]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(faults))
    except (OSError, UserError) as error:
        print_log(f'the check for corrupt images cannot be kept in {file}: {error}', 'current')


def tell_once(text: str) -> None:
    """Warn of what was found in a data set: once, though it may be read several times."""
    if text and dist.is_main_process():
        _warn(MMLogger.get_current_instance(), text)


@lru_cache
def _warn(logger: MMLogger, text: str) -> None:
    logger.warning(text)


def check_split(dataset: str, split: str) -> None:
    """Raise a DataError where ``split`` is neither ``'train'`` nor ``'test'``."""
    if split not in SPLITS:
        raise DataError(f"{dataset} has the splits 'train' and 'test', not {split!r}")


class SkipCorrupt:
    """Gives an mmengine data set of image files the option ``skip_corrupt``.

    To be named before the data set class among the bases. ``num_skipped`` tells how many images
    were left out.

    Args:
        skip_corrupt: Leave out images that cannot be decoded; they are named in the log and
            counted. By default the first one met ends the run with an error.
    """

    def __init__(self, *args, skip_corrupt: bool = False, **kwargs) -> None:
        self.skip_corrupt = skip_corrupt
        self.num_skipped = 0
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples, without the corrupt ones if so asked."""
        samples = super().load_data_list()
        if not self.skip_corrupt:
            return samples
        name = f'{type(self).__name__} {self._place()}'
        faults = find_corrupt([sample['img_path'] for sample in samples], name)
        self.num_skipped = len(faults)
        if len(faults) == len(samples):
            raise DataError(f'{name}: none of its {len(samples)} images can be decoded')
        if faults and dist.is_main_process():
            logger = MMLogger.get_current_instance()
            for message in list(faults.values())[:MAX_NAMED]:
                logger.warning(f'skipped: {message}')
            more = f', the first {MAX_NAMED} of them named above' if len(faults) > MAX_NAMED else ''
            logger.warning(f'{name}: skipped {len(faults)} corrupt images of {len(samples)}{more}')
        return [sample for sample in samples if sample['img_path'] not in faults]

    def _place(self) -> str:
        return (self.data_prefix or {}).get('img_path') or self.data_root
