"""Gradients and activation checkpointing on a device, of every mechanism in every host."""

import copy

import pytest
import torch
from devices import every_device, every_half
from networks import CASES, grads, images

import effvit_mm

SIZE, BATCH = (64, 96), 8  # batch norms of few values magnify what rounding leaves


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


def networks_on(case, device, **kwargs):
    """In float64 on the CPU, and in float32 on the device."""
    model = case.build(out_indices=case.all_maps, **kwargs).train()
    return copy.deepcopy(model).double(), model.to(device)


def joined(gradients: dict) -> torch.Tensor:
    return torch.cat([value.double().cpu().ravel() for value in gradients.values()])


def assert_alike(got: dict, want: dict) -> None:
    """All together, and each: a unit at the edge of a ReLU may fall to the other side."""
    assert got.keys() == want.keys()
    all_got, all_want = joined(got), joined(want)
    whole = all_want.norm()
    assert (all_got - all_want).norm() < 1e-3 * whole
    for name, gradient in want.items():
        difference = got[name].double().cpu() - gradient.double().cpu()
        assert difference.norm() < 0.05 * gradient.norm().cpu() + 1e-4 * whole, name


@every_device
def test_gradients_are_the_cpus(case, device):
    exact, model = networks_on(case, device)
    x = images(*SIZE, batch=BATCH)
    got = grads(model, x.to(device))
    assert {gradient.device.type for gradient in got.values()} == {device}
    assert_alike(got, grads(exact, x.double()))
    for name, value in exact.named_buffers():  # the statistics of batch norms
        other = model.get_buffer(name).double().cpu()
        torch.testing.assert_close(other, value.double(), rtol=1e-3, atol=1e-4, msg=name)


@every_device
def test_checkpointing_gives_the_same_gradients(case, device):
    """Stochastic depth draws the same in the second forward pass, from the device's generator."""
    _, plain = networks_on(case, device, drop_path_rate=0.3)
    saving = case.build(out_indices=case.all_maps, drop_path_rate=0.3, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    x = images(*SIZE, batch=BATCH).to(device)
    assert_alike(grads(saving.to(device).train(), x), grads(plain, x))


@every_device
@every_half
def test_gradients_under_autocast_point_the_same_way(case, device, dtype):
    exact, model = networks_on(case, device)
    x = images(*SIZE, batch=BATCH)
    with torch.autocast(device, dtype):
        rough = joined(grads(model, x.to(device)))
    assert rough.isfinite().all()
    cosine = torch.cosine_similarity(rough, joined(grads(exact, x.double())), dim=0)
    assert cosine > (0.99 if dtype == torch.float16 else 0.85)


def peak(model, x) -> int:
    """Bytes that a training step takes beyond weights and images."""
    model.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    grads(model, x)
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.gpu
@pytest.mark.parametrize(
    'name',
    ['pslt_base', 'crossvit_15', 'deit_small', 'castling_deit_small', 'levit_384',
     'castling_levit_384', 'mvitv2_small', 'lightweight_vit_small'],
)  # fmt: skip
def test_checkpointing_lowers_the_peak(name):
    """Of published networks, 32 images: printed by ``-rP``."""
    x = images(224, 224, batch=32).cuda()
    peaks = {}
    for with_cp in (False, True):
        model = effvit_mm.create_model(name, features_only=True, with_cp=with_cp).cuda().train()
        peak(model, x)  # what a first pass alone allocates
        peaks[with_cp] = peak(model, x)
    gib = {with_cp: round(value / 2**30, 2) for with_cp, value in peaks.items()}
    print(f'{name}: {gib[False]} GiB, with checkpointing {gib[True]} GiB')
    assert peaks[True] < 0.75 * peaks[False] and peaks[False] < 40 * 2**30
