"""Batches of P persons with K pictures each, the same plan in all processes.

Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, section 2: what
batch-hard mining needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ...errors import ConfigError, DataError
from ...reid.names import some
from ..data_checks.class_names import class_names
from ..datasets.scan import tell_once
from ..registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class PKSampler(Sampler[int]):
    """Indices for batches of ``num_persons`` x ``num_instances`` images.

    To be used with a plain loader of ``batch_size = num_persons * num_instances``. In each epoch a
    person's images are shuffled and cut into portions of ``num_instances``; what is left over waits
    for another epoch. Every step takes portions of as many different persons as all processes
    together need, persons with many portions left more often, and deals them out: within a step no
    two processes have a person in common, within an epoch no image comes twice. All processes draw
    the same plan from (seed, epoch), so resuming goes on exactly.

    The number of batches is the largest that can be had with different persons in each step; it is
    the same for each process and each epoch. The last images, too few for a step, are dropped.

    Args:
        dataset: Has ``get_pids()`` and ``get_camids()``: :class:`ReIDDataset`,
            :class:`ConcatReID`.
        num_persons: P, of each process's batch.
        num_instances: K.
        across_cameras: Put a person's images of different cameras together, as far as there are.
        allow_repeats: Persons with fewer than K images have some of them twice in a batch; without
            it they are an error.
        seed: Of the plan; None is one that the processes agree on.

    Raises:
        ConfigError: Numbers that cannot be; more persons a step than there are.
        DataError: Persons with too few images, without ``allow_repeats``.
    """

    def __init__(
        self,
        dataset: Sized,
        num_persons: int,
        num_instances: int,
        across_cameras: bool = False,
        allow_repeats: bool = True,
        seed: int | None = None,
    ) -> None:
        for name, value in (('num_persons', num_persons), ('num_instances', num_instances)):
            if type(value) is not int or value < 1:
                raise ConfigError(f'sampler.{name}={value!r}: a whole number above 0 is needed')
        if not hasattr(dataset, 'get_pids'):
            raise ConfigError(
                f'PKSampler needs to know persons: the data set ({type(dataset).__name__}) must be '
                'effvit_mm.ReIDDataset or effvit_mm.ConcatReID'
            )
        self.rank, self.world_size = get_dist_info()
        self.num_persons, self.num_instances = num_persons, num_instances
        self.across_cameras = across_cameras
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        pids, self._camids = dataset.get_pids(), dataset.get_camids()
        order = np.argsort(pids, kind='stable')
        starts = np.flatnonzero(np.diff(pids[order], prepend=pids.min() - 1))
        self._images = np.split(order, starts[1:])
        counts = np.array([len(images) for images in self._images])
        names, labels = class_names(dataset), pids[order][starts].tolist()
        persons = [names[label] if names else str(label) for label in labels]
        self._judge_counts(counts, persons, allow_repeats)
        self._portions = np.maximum(counts // num_instances, 1)
        self.num_batches = self._count_batches()

    def _judge_counts(self, counts: np.ndarray, names: Sequence[str], allow_repeats: bool) -> None:
        """Enough persons for a step, and enough images of each."""
        needed = self.num_persons * self.world_size
        if len(counts) < needed:
            raise ConfigError(
                f'sampler.num_persons={self.num_persons}: {self.world_size} process'
                f'{"es need" if self.world_size > 1 else " needs"} {needed} different persons a '
                f'step, the training set has {len(counts)}'
                f'{self._fitting(len(counts) // self.world_size)}'
            )
        few = [
            name for name, count in zip(names, counts, strict=True) if count < self.num_instances
        ]
        if not few:
            return
        single = int((counts == 1).sum()) if self.num_instances > 1 else 0
        alone = f', {single} of them a single one' if single else ''
        message = (
            f'sampler: {len(few)} of {len(counts)} persons have fewer than '
            f'num_instances={self.num_instances} images{alone} ({some(few)})'
        )
        if not allow_repeats:
            raise DataError(f'{message}; allow_repeats=True lets images come twice')
        tell_once(
            f'{message}: copies fill their places in a batch; add images of them, take these '
            'persons out, or lower num_instances (batch_size is num_persons times that)'
        )

    def _fitting(self, persons: int) -> str:
        """What to give where a process can have so many persons; a triplet needs two of them."""
        if persons < 2:
            return ''
        fewer = 1 << (persons.bit_length() - 1)  # a power of two, as batches usually are
        return (
            f'; give --cfg-options train_dataloader.sampler.num_persons={fewer} '
            f'train_dataloader.batch_size={fewer * self.num_instances}'
        )

    def _count_batches(self) -> int:
        """The most steps of N different persons: a person can be in each step but once.

        B steps are possible if and only if the portions, of each person at most B, are enough.
        """
        needed = self.num_persons * self.world_size
        steps = int(self._portions.sum()) // needed
        while np.minimum(self._portions, steps).sum() < steps * needed:
            steps -= 1
        return steps

    def check_batch_size(self, batch_size: int) -> None:
        """Raise unless a loader's batches are the sampler's.

        Raises:
            ConfigError: They are not.
        """
        wanted = self.num_persons * self.num_instances
        if batch_size != wanted:
            raise ConfigError(
                f'train_dataloader.batch_size={batch_size!r}: PKSampler with '
                f'num_persons={self.num_persons} and num_instances={self.num_instances} needs '
                f'{wanted}'
            )

    def __len__(self) -> int:
        """Indices that one process gets in an epoch."""
        return self.num_batches * self.num_persons * self.num_instances

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose plan is drawn."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        portions = [self._cut(generator, images) for images in self._images]
        own = range(self.rank * self.num_persons, (self.rank + 1) * self.num_persons)
        for persons in self._plan(generator):
            # Those of the other processes are taken too: none of them is to come here later.
            taken = [portions[person].pop() for person in persons]
            for position in own:
                yield from taken[position]

    def _plan(self, generator: np.random.Generator) -> Iterator[list[int]]:
        """The persons of each step, of all processes."""
        needed = self.num_persons * self.world_size
        left = self._portions.copy()
        for remaining in range(self.num_batches, 0, -1):
            # The smaller -log(u) / weight, the earlier: a draw in proportion to the weights.
            with np.errstate(divide='ignore'):
                keys = generator.exponential(size=len(left)) / left
            # Who has a portion for each step left must be in each, or there would be too few.
            keys[left >= remaining] -= 1e9
            chosen = np.argsort(keys, kind='stable')[:needed]
            left[chosen] -= 1
            generator.shuffle(chosen)
            yield chosen.tolist()

    def _cut(self, generator: np.random.Generator, images: np.ndarray) -> list[list[int]]:
        """A person's shuffled images in portions of ``num_instances``."""
        size = self.num_instances
        shuffled = generator.permutation(images)
        if len(images) < size:
            extra = [generator.permutation(images) for _ in range(-(-size // len(images)) - 1)]
            return [np.concatenate([shuffled, *extra])[:size].tolist()]
        if self.across_cameras:
            shuffled = self._alternate(shuffled)
        whole = len(shuffled) // size * size
        return shuffled[:whole].reshape(-1, size).tolist()

    def _alternate(self, images: np.ndarray) -> np.ndarray:
        """Reorder so that a portion's images are of as many cameras as possible.

        The camera with the most images left goes next among those that the portion has least of.
        """
        by_camera: dict[int, list[int]] = {}
        for image in images.tolist():
            by_camera.setdefault(int(self._camids[image]), []).append(image)
        result: list[int] = []
        while len(result) < len(images):
            if len(result) % self.num_instances == 0:
                used = dict.fromkeys(by_camera, 0)
            camera = min(
                (camera for camera, left in by_camera.items() if left),
                key=lambda camera: (used[camera], -len(by_camera[camera])),
            )
            used[camera] += 1
            result.append(by_camera[camera].pop())
        return np.array(result)
