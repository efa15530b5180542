"""Attention with as many heads as tokens: right in OpenVINO, whose own fusion is not."""

from __future__ import annotations

import pytest
import torch
from networks import deviation
from torch import nn
from torch.nn import functional as F

from effvit_mm.runtime import DeployedNetwork, OpenVINOSession, export_onnx, export_openvino
from effvit_mm.runtime.openvino_core import core


class Attention(nn.Module):
    """Of the tokens of a map of 4 x 2."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.patches, self.qkv = nn.Conv2d(3, 48, 4, 4), nn.Linear(48, 144)
        self.proj = nn.Linear(48, 48)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.qkv(self.patches(images).flatten(2).transpose(1, 2))
        q, k, v = x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).flatten(2)).mean(1)


@pytest.mark.parametrize('kind', ['.xml', '.onnx'])
@pytest.mark.parametrize('heads', [8, 4])
@torch.no_grad()
def test_numbers_are_pytorchs(heads, kind, tmp_path):
    torch.manual_seed(0)
    network, path = DeployedNetwork(Attention(heads)), tmp_path / f'a{kind}'
    {'.xml': export_openvino, '.onnx': export_onnx}[kind](network, path, (16, 8))
    session = OpenVINOSession(path)
    for batch in (1, 3):
        images = torch.randn(batch, 3, 16, 8)
        found = [torch.from_numpy(array) for array in session(images)]
        assert deviation(found, list(network(images))) < 1e-5, batch


@torch.no_grad()
def test_a_file_is_right_in_other_programs_too(tmp_path):
    torch.manual_seed(0)
    network = DeployedNetwork(Attention(8))
    export_openvino(network, tmp_path / 'a.xml', (16, 8))
    model = core().read_model(tmp_path / 'a.xml')
    model.reshape([1, 3, 16, 8])
    compiled = core().compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    images = torch.randn(1, 3, 16, 8)
    found = [torch.from_numpy(array) for array in compiled([images.numpy()]).to_tuple()]
    assert deviation(found, list(network(images))) < 1e-5
