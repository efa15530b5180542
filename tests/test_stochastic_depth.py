"""Our layer of stochastic depth against torchvision's, which loads a compiler with it."""

from __future__ import annotations

import pytest
import torch
import torchvision

from effvit_mm.backbones.stochastic_depth import StochasticDepth


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('p', [0.0, 0.3, 0.9])
@pytest.mark.parametrize('shape', [(64, 5), (32, 7, 3), (16, 2, 4, 4), (0, 3)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_same_branches_stay_as_in_torchvision(shape, p, training, dtype):
    x = torch.rand(shape, dtype=dtype)
    ours = StochasticDepth(p).train(training)
    theirs = torchvision.ops.StochasticDepth(p, 'row').train(training)
    for seed in range(3):
        torch.manual_seed(seed)
        found = ours(x)
        torch.manual_seed(seed)
        assert torch.equal(found, theirs(x))
        assert found.dtype == dtype


def test_an_image_stays_whole_or_goes_whole():
    torch.manual_seed(0)
    found = StochasticDepth(0.25)(torch.ones(4000, 3, 2))
    kept = found[:, 0, 0] > 0
    assert torch.equal(found, kept.float()[:, None, None].expand_as(found) / 0.75)
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
