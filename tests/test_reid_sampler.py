"""P x K batches: right for each process, the same plan for all of them, for any make of a set."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.hooks import DistSamplerSeedHook
from mmengine.registry import DATA_SAMPLERS
from remedies import tries

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.openmm.engine.runner import Runner
from effvit_mm.openmm.reid import sampler as module
from effvit_mm.openmm.reid.sampler import PKSampler


class People:
    """A data set that knows persons and cameras."""

    def __init__(self, counts, cameras: int = 3, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        pids = np.repeat(np.arange(len(counts)), counts)
        order = generator.permutation(len(pids))
        self.pids = pids[order]
        self.camids = generator.integers(0, cameras, len(pids))

    def get_pids(self):
        return self.pids

    def get_camids(self):
        return self.camids

    def __len__(self):
        return len(self.pids)

    def __getitem__(self, index):
        return index


UNEVEN = People([2, 3, 4, 5, 8, 9, 12, 30, 4, 4, 7, 6])


def as_rank(rank: int, world_size: int, *args, **kwargs) -> PKSampler:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'get_dist_info', lambda: (rank, world_size))
        return PKSampler(*args, **kwargs)


def batches(sampler: PKSampler) -> np.ndarray:
    """(number, P, K) indices."""
    shape = (-1, sampler.num_persons, sampler.num_instances)
    return np.array(list(sampler)).reshape(shape)


@pytest.mark.parametrize('across_cameras', [False, True])
def test_a_batch_has_p_persons_with_k_images_each(across_cameras):
    sampler = PKSampler(UNEVEN, 4, 3, seed=1, across_cameras=across_cameras)
    found = batches(sampler)
    assert len(found) == sampler.num_batches and found.size == len(sampler)
    for batch in found:
        persons = UNEVEN.pids[batch]
        assert (persons == persons[:, :1]).all()
        assert len(set(persons[:, 0])) == 4


def test_no_image_comes_twice_in_an_epoch_but_of_persons_with_too_few():
    for epoch in range(5):
        sampler = PKSampler(UNEVEN, 4, 4, seed=1)
        sampler.set_epoch(epoch)
        indices, counts = np.unique(batches(sampler), return_counts=True)
        repeated = indices[counts > 1]
        assert set(UNEVEN.pids[repeated]) <= {0, 1}
        assert counts.max() <= 2  # of two or three images each comes at most twice among four


@pytest.mark.parametrize('world_size', [2, 3])
def test_processes_share_one_plan_without_overlap(world_size):
    ranks = [as_rank(r, world_size, UNEVEN, 3, 3, seed=5) for r in range(world_size)]
    assert len({len(sampler) for sampler in ranks}) == 1
    found = np.stack([batches(sampler) for sampler in ranks])  # ranks, steps, P, K
    for step in range(found.shape[1]):
        persons = UNEVEN.pids[found[:, step, :, 0]].ravel()
        assert len(set(persons)) == 3 * world_size
    indices, counts = np.unique(found, return_counts=True)
    assert set(UNEVEN.pids[indices[counts > 1]]) <= {0}  # who has two images and needs three
    alone = as_rank(0, 1, UNEVEN, 3 * world_size, 3, seed=5)
    together = found.transpose(1, 0, 2, 3).reshape(found.shape[1], -1, 3)
    assert (batches(alone) == together).all()


@pytest.mark.parametrize('seed', range(20))
def test_there_are_as_many_batches_as_there_can_be_in_every_epoch(seed):
    generator = np.random.default_rng(seed)
    people = People(generator.integers(1, 40, generator.integers(4, 15)), seed=seed)
    portions = np.maximum(np.bincount(people.pids) // 2, 1)
    persons = int(generator.integers(1, 5))
    sampler = PKSampler(people, persons, 2, seed=seed)
    most = max(
        b for b in range(1, portions.sum() + 1) if np.minimum(portions, b).sum() >= b * persons
    )
    assert sampler.num_batches == most
    for epoch in range(3):
        sampler.set_epoch(epoch)
        found = people.pids[batches(sampler)[:, :, 0]]
        assert len(found) == most
        assert all(len(set(step)) == persons for step in found)


def test_everybody_is_seen_when_all_have_equally_many():
    people = People([8] * 12)
    sampler = PKSampler(people, 4, 4, seed=0)
    assert sorted(batches(sampler).ravel()) == list(range(96))


def test_an_epoch_is_a_function_of_seed_and_number():
    one, other = (PKSampler(UNEVEN, 4, 3, seed=7) for _ in range(2))
    epochs = []
    for epoch in range(3):
        one.set_epoch(epoch)
        epochs.append(list(one))
    other.set_epoch(2)  # as a resumed training does
    assert list(other) == epochs[2] and list(other) == epochs[2]
    assert epochs[0] != epochs[1] != epochs[2]
    assert list(PKSampler(UNEVEN, 4, 3, seed=8)) != epochs[0]


def test_mmengine_s_hook_sets_the_epoch():
    built = Runner.build_dataloader(loader(12), seed=3)
    loop = SimpleNamespace(dataloader=built, epoch=4)
    DistSamplerSeedHook().before_train_epoch(SimpleNamespace(train_loop=loop, epoch=4))
    drawn = [index for batch in built for index in batch.tolist()]
    resumed = PKSampler(UNEVEN, 4, 3, seed=3)
    resumed.set_epoch(4)
    assert drawn == list(resumed)


def test_a_person_with_many_images_comes_throughout_the_epoch():
    people = People([40] + [4] * 40)
    steps = [0, 0]
    for epoch in range(30):
        sampler = PKSampler(people, 4, 4, seed=3)
        sampler.set_epoch(epoch)
        found = people.pids[batches(sampler)[:, :, 0]]
        when = np.flatnonzero((found == 0).any(1))
        steps[0] += (when < len(found) / 2).sum()
        steps[1] += (when >= len(found) / 2).sum()
    assert 0.5 < steps[0] / steps[1] < 2


# Cameras ------------------------------------------------------------------------------------------


def test_across_cameras_as_many_cameras_as_there_are():
    people = People([12] * 6)
    people.camids = np.zeros(72, int)
    for person in range(6):  # eight images of camera 0, four of others
        images = np.flatnonzero(people.pids == person)
        people.camids[images[:2]], people.camids[images[2:4]] = 1, 2
    cameras = {}
    for across in (False, True):
        found = batches(PKSampler(people, 3, 3, seed=0, across_cameras=across)).reshape(-1, 3)
        cameras[across] = np.sort([len(set(people.camids[k])) for k in found])
        assert sorted(found.ravel()) == list(range(72))
    # Two portions of each person have one image of each camera: no more can.
    assert cameras[True].tolist() == [1] * 12 + [3] * 12
    assert cameras[False].sum() < cameras[True].sum()


def test_persons_of_one_camera_are_no_obstacle():
    people = People([6] * 4, cameras=1)
    assert sorted(batches(PKSampler(people, 2, 3, across_cameras=True, seed=0)).ravel()) == list(
        range(24)
    )


# What cannot be -----------------------------------------------------------------------------------


@tries('; allow_repeats=True lets images come twice')
def test_persons_with_fewer_images_than_k_are_told_or_refused():
    with pytest.raises(
        DataError, match=r'2 of 12 persons .*num_instances=4 images \(0, 1\); allow_repeats'
    ):
        PKSampler(UNEVEN, 4, 4, allow_repeats=False)
    PKSampler(UNEVEN, 4, 4, seed=0)
    PKSampler(UNEVEN, 4, 2, allow_repeats=False, seed=0)  # two are enough for two


def test_more_persons_a_step_than_there_are():
    with pytest.raises(ConfigError, match=r'num_persons=13: 1 process needs 13 .*has 12'):
        PKSampler(UNEVEN, 13, 2)
    with pytest.raises(ConfigError, match=r'num_persons=7: 2 processes need 14 .*has 12'):
        as_rank(1, 2, UNEVEN, 7, 2)
    with pytest.raises(ConfigError, match=r'num_persons=4 train_dataloader.batch_size=8$'):
        as_rank(1, 2, UNEVEN, 7, 2)  # six are left for each
    with pytest.raises(ConfigError, match=r'has 12$'):  # of one person there is no triplet
        as_rank(1, 12, UNEVEN, 2, 2)


@pytest.mark.parametrize('name', ['num_persons', 'num_instances'])
@pytest.mark.parametrize('value', [0, -4, 2.0, True])
def test_numbers_that_cannot_be(name, value):
    with pytest.raises(ConfigError, match=f'sampler.{name}={value}'):
        PKSampler(UNEVEN, **{'num_persons': 2, 'num_instances': 2, name: value})


def test_a_data_set_without_persons():
    with pytest.raises(ConfigError, match=r'list.*ReIDDataset'):
        PKSampler([1, 2, 3], 2, 2)


def loader(batch_size: int) -> dict:
    return {
        'dataset': UNEVEN,
        'batch_size': batch_size,
        'num_workers': 0,
        'sampler': {'type': 'effvit_mm.PKSampler', 'num_persons': 4, 'num_instances': 3},
        'collate_fn': {'type': 'default_collate'},
    }


def test_the_loader_must_have_batches_of_p_times_k():
    assert DATA_SAMPLERS.get('effvit_mm.PKSampler') is PKSampler
    built = Runner.build_dataloader(loader(12), seed=3)
    shapes = {tuple(batch.shape) for batch in built}
    assert shapes == {(12,)} and len(built) == built.sampler.num_batches
    with pytest.raises(ConfigError, match=r'batch_size=64: .*num_persons=4 .*needs 12'):
        Runner.build_dataloader(loader(64), seed=3)


# Two processes ------------------------------------------------------------------------------------

TESTS = Path(__file__).parent
PROGRAM = """
import json, sys
from torch.distributed import init_process_group
init_process_group('gloo')
from mmengine.runner import Runner
sys.path[:0] = {folders!r}
from test_reid_sampler import UNEVEN, loader
built = Runner.build_dataloader(loader(12), seed=None)
built.sampler.set_epoch(1)
print(json.dumps([batch.tolist() for batch in built]))
"""


def test_two_processes_agree_on_a_seed_and_share_no_image(trainers):
    program = PROGRAM.format(folders=[str(TESTS), str(TESTS / 'helpers')])
    ended = trainers.run_ranks('-c', program)
    assert [done.returncode for done in ended] == [0, 0], ended
    found = np.array([json.loads(done.stdout.splitlines()[-1]) for done in ended])
    assert found.shape[0] == 2 and found.shape[1] > 1 and found.shape[2] == 12
    for step in range(found.shape[1]):
        persons = [set(UNEVEN.pids[found[rank, step]]) for rank in range(2)]
        assert len(persons[0]) == len(persons[1]) == 4 and not persons[0] & persons[1]
    once = np.isin(UNEVEN.pids[found], [0], invert=True)
    assert len(np.unique(found[once])) == once.sum()
