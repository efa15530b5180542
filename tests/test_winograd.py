"""3x3 convolutions by Winograd's tiles: the same numbers, in OpenVINO's files of a fixed size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from effvit_mm.runtime import DeployedNetwork, export_openvino
from effvit_mm.runtime.openvino_core import core
from effvit_mm.runtime.winograd import (
    LEAST_CHANNELS,
    LEAST_TILES,
    WinogradConv2d,
    winograd_convolution,
)

WIDE = LEAST_CHANNELS


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('size', [(24, 24), (21, 37), (40, 22), (7, 90), (1, 600)])
@torch.no_grad()
def test_numbers_are_the_convolutions(size, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(9, 7, 3, padding=1, bias=bias).double()
    x = torch.randn(2, 9, *size).double()
    wanted = conv(x)
    torch.testing.assert_close(WinogradConv2d(conv)(x), wanted, rtol=0, atol=1e-12)
    single = WinogradConv2d(conv.float())(x.float())
    assert (single - wanted).abs().max() < 1e-5 * wanted.abs().max()


@torch.no_grad()
def test_small_maps_are_convolved_directly():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    fast = WinogradConv2d(conv)
    fast.products.fill_(float('nan'))  # which only tiles look at
    assert torch.equal(fast(torch.ones(1, 4, 20, 24)), conv(torch.ones(1, 4, 20, 24)))
    assert LEAST_TILES == 36 and fast(torch.ones(1, 4, 24, 24)).isnan().any()


@pytest.mark.parametrize(
    'changes',
    [
        {'kernel_size': 1, 'padding': 0},
        {'kernel_size': 5},
        {'stride': 2},
        {'padding': 0},
        {'dilation': 2},
        {'groups': 2},
        {'in_channels': WIDE // 2},
        {'out_channels': WIDE // 2},
        {'padding_mode': 'reflect'},
    ],
)
def test_others_stay_as_they_are(changes):
    settings = {'in_channels': WIDE, 'out_channels': WIDE, 'kernel_size': 3, 'padding': 1}
    assert isinstance(winograd_convolution(nn.Conv2d(**settings)), WinogradConv2d)
    conv = nn.Conv2d(**settings | changes)
    assert winograd_convolution(conv) is conv


@pytest.mark.parametrize(
    ('options', 'direct'), [({}, 0), ({'any_size': True}, 2), ({'winograd': False}, 2)]
)
def test_files_of_openvino(options, direct, tmp_path):
    """Of a fixed size they hold no wide 3x3 convolution; each is right, or would not be written."""
    torch.manual_seed(0)
    convs = (nn.Conv2d(WIDE, WIDE, 3, padding=1) for _ in range(2))
    network = nn.Sequential(nn.Conv2d(3, WIDE, 1), *convs)
    deployed = DeployedNetwork(network, outputs='map')
    export_openvino(deployed, tmp_path / 'a.xml', (40, 44), **options)
    operators = core().read_model(tmp_path / 'a.xml').get_ops()
    kernels = [
        tuple(node.input(1).get_partial_shape().to_shape())[2:]
        for node in operators
        if node.get_type_name() == 'Convolution'
    ]
    assert kernels.count((3, 3)) == direct
    assert not any(isinstance(module, WinogradConv2d) for module in deployed.modules())
