"""Masks of shifted windows as channels of queries and keys: the same numbers, smaller graphs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from effvit_mm.attention.ladder import ShiftedWindowAttention
from effvit_mm.deploy import switch_modules
from effvit_mm.runtime import DeployedNetwork, export_openvino
from effvit_mm.runtime.graph_form import graph_form
from effvit_mm.runtime.masked_windows import MaskInChannels
from effvit_mm.runtime.openvino_core import core

SHIFTS = [-3, 3, -1, 2]


def in_graphs(shift: int, **options: object) -> tuple[nn.Module, nn.Module]:
    """A layer for windows of 4 x 4, deployed, and what graphs have in its place."""
    torch.manual_seed(0)
    layer = ShiftedWindowAttention(12, 3, window_size=4, shift=shift, **options)
    deployed = nn.Sequential(layer)
    switch_modules(deployed.eval())
    return deployed[0], graph_form(deployed, {})[0]


@pytest.mark.parametrize('takes_value', [False, True])
@pytest.mark.parametrize('shift', SHIFTS)
@pytest.mark.parametrize('grid', [(8, 8), (9, 14), (5, 23), (4, 4), (3, 9), (2, 2)])
@torch.no_grad()
def test_numbers_are_the_masks(grid, shift, takes_value):
    layer, graph = in_graphs(shift, takes_value=takes_value)
    assert isinstance(graph, MaskInChannels)
    maps = [3 * torch.randn(2, *grid, 12) for _ in range(1 + takes_value)]
    wanted = layer(*maps)
    torch.testing.assert_close(graph(*maps), wanted, rtol=0, atol=2e-6 * wanted.abs().max().item())


@torch.no_grad()
def test_parts_do_not_see_each_other():
    """What the roll brought together stays apart, however strongly a query is drawn to it."""
    _, graph = in_graphs(-2)
    x = torch.randn(1, 8, 8, 12)
    other = x.clone()
    other[:, :2] += 10 * torch.randn(1, 2, 8, 12)  # rolled beside the last two rows
    assert torch.equal(graph(x)[:, 6:, 2:6], graph(other)[:, 6:, 2:6])
    assert not torch.equal(graph(x)[:, :2], graph(other)[:, :2])


@pytest.mark.parametrize(
    'options',
    [
        {'shift': 0},
        {'shift': -2, 'mask_padding': True},
        {'shift': -2, 'attention': {'type': 'LinearAttention'}},
        {'shift': -2, 'attention': {'type': 'LinearAngularAttention'}},
    ],
)
def test_others_stay_as_they_are(options):
    assert type(in_graphs(**options)[1]) is type(in_graphs(**options)[0])


@pytest.mark.parametrize('any_size', [False, True])
def test_files_hold_no_mask_of_each_window(any_size, tmp_path):
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 12, 2, 2)
            self.attention = ShiftedWindowAttention(12, 3, window_size=4, shift=-2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.attention(self.patches(images).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    torch.manual_seed(0)
    network = DeployedNetwork(Network(), outputs='map', size=(64, 96))
    export_openvino(network, tmp_path / 'a.xml', (64, 96), any_size)  # checked, or not written
    nodes = core().read_model(tmp_path / 'a.xml').get_ops()
    constants = [node for node in nodes if node.get_type_name() == 'Constant']
    windows, length = 8 * 12, 16
    assert max(node.data.size for node in constants) < windows * length * length
