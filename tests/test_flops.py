"""Parameters and multiply-adds are the published ones, fused attention counted."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from programs import load_tool
from torch import nn

import effvit_mm
from effvit_mm.flops import count_flops, count_parameters, flops_by_operator

ROOT = Path(__file__).parents[1]

# facts of the authors' code: parameters, without head and its norm, multiply-adds at 224 (G),
# channels of C2..C5.
PUBLISHED = {
    'pslt_tiny': (4_298_988, 3_913_220, 0.900, (48, 96, 192, 384)),
    'pslt_base': (9_257_302, 8_679_150, 1.971, (72, 144, 288, 576)),
    'pslt_large': (16_099_312, 15_328_776, 3.456, (96, 192, 384, 768)),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_figures(name):
    parameters, backbone_parameters, flops, channels = PUBLISHED[name]
    model = effvit_mm.create_model(name)
    backbone = effvit_mm.create_model(name, features_only=True)
    assert count_parameters(model) == parameters
    assert count_parameters(backbone) == backbone_parameters
    assert round(count_flops(model, (3, 224, 224)) / 1e9, 3) == flops
    assert backbone.out_channels == channels
    assert backbone.out_strides == (4, 8, 16, 32)


@pytest.mark.parametrize(
    ('size', 'flops'), [((800, 1280), 41.28), ((512, 512), 10.77), ((256, 128), 1.57)]
)
def test_published_figures_of_the_detection_backbone(size, flops):
    backbone = effvit_mm.create_model('pslt_base', features_only=True)
    assert round(count_flops(backbone, (3, *size)) / 1e9, 2) == flops


class Attention(nn.Module):
    def __init__(self, heads, width, value_width, keys, fused):
        super().__init__()
        self.q = nn.Parameter(torch.randn(1, heads, 1, width))
        self.k = nn.Parameter(torch.randn(1, heads, keys, width))
        self.v = nn.Parameter(torch.randn(1, heads, keys, value_width))
        self.fused = fused

    def forward(self, x):
        q = self.q * x.flatten(1)[:, None, :, None]
        k, v = (t.expand(len(x), -1, -1, -1) for t in (self.k, self.v))
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v)
        return (q @ k.mT).softmax(-1) @ v


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('value_width', [16, 40])
def test_attention_has_its_closed_form(fused, value_width):
    """heads x queries x keys x (width + value width), whichever kernel runs."""
    model = Attention(heads=3, width=16, value_width=value_width, keys=50, fused=fused)
    expected = 2 * 3 * (4 * 5) * 50 * (16 + value_width)
    assert count_flops(model, (2, 1, 4, 5)) == expected


def test_layers_have_their_closed_form():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8))
    flops = flops_by_operator(model, (3, 32, 48))
    assert sum(flops.values()) == 16 * 24 * (8 * 27 + 8 * 9)
    assert set(flops) == {'convolution'}


def test_mode_and_gradients_are_left_alone():
    model = effvit_mm.create_model('pslt_tiny').train()
    model.backbone.stem.eval()
    count_flops(model, (3, 64, 64))
    assert model.training and not model.backbone.stem.training
    assert model.backbone.stages.training


@pytest.mark.parametrize(
    'shape', [(3, 64), (3, 0, 64), (3, 64.0, 64), (1, 2, 3, 64, 64), 64], ids=str
)
def test_bad_shape(shape):
    with pytest.raises(ValueError, match='input_shape'):
        count_flops(nn.Identity(), shape)


def test_a_name_is_no_model():
    with pytest.raises(TypeError, match=r"model='pslt_tiny': a module is needed, as create_model"):
        count_flops('pslt_tiny', (3, 64, 64))


@pytest.fixture(scope='module')
def tool():
    return load_tool('analysis_tools/get_flops')


def test_tool_counts_a_config(tool, capsys):
    config = str(ROOT / 'configs' / 'pslt' / 'pslt-tiny_8xb128_in1k.py')
    assert tool.main([config, '--shape', '224', '224']) == 0
    out = capsys.readouterr().out
    assert '0.900 G' in out and '4.299 M' in out


def test_tool_refuses(tool, capsys):
    assert tool.main(['pslt_tiny', '--shape', '0', '3']) == 2
    assert tool.main(['absent.py']) == 2
    assert tool.main(['pslt_tiny', '--shape', '16']) == 2
    assert capsys.readouterr().err.count('error: ') == 3
