"""Re-ID folders of published sets' sizes, made of links; an evaluation by several processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .isolation import begin_as_tool
from .memory import peak_bytes, resident_bytes
from .scale import LINKS, Work

SHAPE = (128, 64, 3)
WIDTH = 128  # of the features that are made


class Folder(NamedTuple):
    """How large a set is, and by which config it is read.

    Attributes:
        name: Of the set.
        config: Its config.
        train, query, gallery: Images.
        people: In training, and in the test.
        cameras: Of all.
    """

    name: str
    config: str
    train: int
    query: int
    gallery: int
    people: tuple[int, int]
    cameras: int

    def scaled(self, factor: float) -> Folder:
        """The same with a part of the images and people."""
        train, query, gallery = (round(n * factor) for n in (self.train, self.query, self.gallery))
        people = tuple(max(16, round(count * factor)) for count in self.people)
        return self._replace(train=train, query=query, gallery=gallery, people=people)


MARKET = Folder(
    'Market-1501', 'configs/pslt/reid_pslt-tiny_market1501.py', 12_936, 3_368, 19_732, (751, 750), 6
)
MSMT17 = Folder(
    'MSMT17', 'configs/pslt/reid_pslt-tiny_msmt17-v1.py', 32_621, 11_659, 82_161, (1_041, 3_060), 15
)


def make_folder(root: Path, size: Folder) -> Path:
    """A folder laid out as the set's; its images are links of a few JPEG files."""
    if (root / 'made').exists():
        return root
    place = market_name if size.name == MARKET.name else msmt17_name
    lists: dict[str, list[str]] = {}
    files = []
    counts = {'train': size.train, 'query': size.query, 'gallery': size.gallery}
    for split, count in counts.items():
        people = size.people[split != 'train']
        for number in range(count):
            # Of each person the cameras in turn: a query has matches in other cameras.
            person, shot = number % people, number // people
            camera = (person + shot + (split == 'query')) % size.cameras + 1
            file, line = place(split, person, camera, number)
            files.append(file)
            lists.setdefault(split, []).append(line)
    _link(root, files)
    if place is msmt17_name:
        for split, lines in {**lists, 'val': []}.items():
            (root / 'MSMT17_V1' / f'list_{split}.txt').write_text(''.join(lines))
    (root / 'made').touch()
    return root


def market_name(split: str, person: int, camera: int, number: int) -> tuple[str, str]:
    """A file of Market-1501's layout; it has no lists."""
    folder = {'train': 'bounding_box_train', 'query': 'query'}.get(split, 'bounding_box_test')
    pid = 2 * person + (1 if split == 'train' else 2)  # of 1 to 1501
    return f'{folder}/{pid:04}_c{camera}s1_{number:06}_00.jpg', ''


def msmt17_name(split: str, person: int, camera: int, number: int) -> tuple[str, str]:
    """A file of MSMT17's layout, and its line of a list."""
    folder = 'train' if split == 'train' else 'test'
    name = f'{person:04}/{person:04}_{number:06}_{camera:02}_0303morning_{split}.jpg'
    return f'MSMT17_V1/{folder}/{name}', f'{name} {person}\n'


def _link(root: Path, files: list[str]) -> None:
    import cv2

    picture = np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)
    for number, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if number % LINKS == 0:
            first = path
            cv2.imwrite(str(path), picture)
        else:
            os.link(first, path)


def measure_reid_start(size: Folder, root: Path) -> Work:
    """Read training and test sets by the set's config, and give the first batch of training."""
    begin_as_tool(torch.get_num_threads())
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    from effvit_mm.openmm.config.loading import load_config

    cfg = load_config(size.config, [f'data_root={root}'])
    init_default_scope(cfg.default_scope)
    loaders = [cfg.train_dataloader, cfg.val_dataloader]
    for loader in loaders:
        loader.update(num_workers=0, persistent_workers=False)
        loader.setdefault('collate_fn', {'type': 'default_collate'})
    begin, start = resident_bytes(), time.process_time()
    train, test = (Runner.build_dataloader(loader, seed=0) for loader in loaders)
    batch = next(iter(train))
    seconds = time.process_time() - start
    images = {'to train': len(train.dataset), 'to test': len(test.dataset)}
    return Work(seconds, begin, {**images, 'batch': len(batch['inputs'])})


# Evaluation by several processes ------------------------------------------------------------------


def _samples(size: Folder, rank: int, world: int) -> list[dict]:
    """Those of one process, every ``world``-th; features of a person lie near each other."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(size.people[1], WIDTH)).astype(np.float32)
    total, samples = size.query + size.gallery, []
    noise = generator.normal(size=(total, WIDTH)).astype(np.float32)
    for index in range(rank, total, world):
        query = index < size.query
        place = index if query else index - size.query
        person = place % size.people[1]
        camera = (person + place // size.people[1] + query) % size.cameras
        samples.append({
            'feature': torch.from_numpy(centers[person] + 2.6 * noise[index]), 'pid': person,
            'camid': camera, 'img_path': f'{index}.jpg', 'sample_idx': index,
            'subset': 'query' if query else 'gallery',
        })  # fmt: skip
    return samples


def _evaluate(rank: int, world: int, port: int, size: Folder, threads: int, answers) -> None:
    begin_as_tool(threads)
    from effvit_mm.openmm.reid.metric import ReIDMetric

    if world > 1:
        torch.distributed.init_process_group(
            'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=world
        )
    samples = _samples(size, rank, world)
    begin, start = resident_bytes(), time.process_time()
    metric = ReIDMetric()
    metric.process({}, samples)
    figures = metric.evaluate(size.query + size.gallery)
    if rank == 0:
        answers.put((time.process_time() - start, begin, figures, peak_bytes()))
    if world > 1:
        torch.distributed.destroy_process_group()


def measure_ranks(size: Folder, world: int, threads: int) -> tuple[Work, int]:
    """Figures by ``world`` processes, and the peak of the one that ranks, in bytes."""
    import socket

    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context('spawn')
    answers = context.SimpleQueue()
    torch.multiprocessing.start_processes(
        _evaluate, (world, port, size, threads, answers), nprocs=world, start_method='spawn'
    )
    seconds, begin, figures, peak = answers.get()
    return Work(seconds, begin, figures), peak
