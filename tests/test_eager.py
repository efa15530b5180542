"""Shortcuts of eager inference: the results of the plain steps, and only where they are allowed."""

import pytest
import torch
import torch.nn.functional as F
from test_contract import CASES, images, randomise_norms
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from effvit_mm.analysis import count_flops
from effvit_mm.attention.eager import gelu, runs_eagerly
from effvit_mm.attention.windows import join_heads, split_heads
from effvit_mm.backbones.pslt import InvertedResidual
from effvit_mm.deploy import ConvGELU, PointwiseConv2d, convolution


def calls(function, *args):
    """Names of the operators that a call runs."""
    with torch.profiler.profile() as profile:
        function(*args)
    return {event.name for event in profile.events()}


def test_only_plain_inference_is_eager():
    x, weight = torch.randn(3), nn.Parameter(torch.randn(3))
    assert runs_eagerly(x)
    assert not runs_eagerly(x, weight)
    with torch.no_grad():
        assert runs_eagerly(x, weight)
        with FlopCounterMode(display=False):
            assert not runs_eagerly(x)
    with torch.inference_mode():
        assert runs_eagerly(x, weight)
    seen = []

    def watch(t):
        seen.append(runs_eagerly(t))
        return t + 1

    torch.jit.trace(watch, (x,), check_trace=False)
    torch.vmap(watch)(x)
    torch.func.grad(lambda t: watch(t).sum())(x)
    torch.func.jvp(watch, (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        watch(torch.autograd.forward_ad.make_dual(x, x))

    class Watching(nn.Module):
        def forward(self, t):
            return watch(t)

    torch.export.export(Watching(), (x,))
    assert len(seen) >= 6 and not any(seen)


def test_gelu_writes_only_where_nobody_looks():
    x = torch.randn(5, requires_grad=True)
    y = x * 1
    torch.testing.assert_close(gelu(y), F.gelu(x))
    assert torch.equal(y, x)
    with torch.no_grad():
        want = F.gelu(y)
        assert torch.equal(gelu(y), want) and torch.equal(y, want)


@pytest.mark.parametrize('shift', [0, -2, 3])
@pytest.mark.parametrize(('batch', 'count', 'heads'), [(1, 3, 2), (3, 2, 4), (2, 1, 1)])
def test_rows_in_order_are_the_strided_copies(shift, batch, count, heads):
    torch.manual_seed(0)
    x = torch.randn(batch, 8, 15, count * heads * 6, requires_grad=True)
    plain = split_heads(x, (4, 5), shift, count, heads)
    assert plain.requires_grad and plain.shape == (count, batch, 6 * heads, 20, 6)
    joined = join_heads(plain[0], (4, 5), shift, (8, 15), heads)
    assert torch.equal(joined, x[..., : heads * 6])
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(split_heads(x, (4, 5), shift, count, heads), plain)
            for t in (plain[0], plain[0].transpose(1, 2).contiguous().transpose(1, 2)):
                assert torch.equal(join_heads(t, (4, 5), shift, (8, 15), heads), joined)
        assert 'aten::index_select' in calls(split_heads, x, (4, 5), shift, count, heads)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(13, 9), (12, 16), (64, 90)], ids=str)
@pytest.mark.parametrize('band', [1, 1 << 12, 1 << 14, 1 << 18])
@torch.no_grad()
def test_bands_are_seamless(stride, size, band, monkeypatch):
    """One row at a time, some, whole images, groups of images: the same map."""
    torch.manual_seed(0)
    block = randomise_norms(InvertedResidual(6, 6, stride)).eval()
    x = torch.randn(3, 6, *size).contiguous(memory_format=torch.channels_last)
    want = block(x)
    monkeypatch.setattr(convolution, 'BAND', band)
    got = block.switch_to_deploy()(x)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_wide_maps_are_never_whole():
    """The largest piece of memory that a deployed block asks for is a band, not the wide map."""
    block = randomise_norms(InvertedResidual(8, 8, 1)).eval().switch_to_deploy()
    x = images(400, 400, batch=1).repeat(1, 3, 1, 1)[:, :8]
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.profiler.profile(profile_memory=True) as profile:
        block(x)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert x.nbytes <= largest < 2 * x.nbytes  # the wide map has four times as many


@pytest.mark.parametrize(('kernel', 'stride', 'groups'), [(1, 1, 1), (3, 2, 1), (3, 1, 4)])
@torch.no_grad()
def test_gelu_within_the_convolution(kernel, stride, groups, monkeypatch):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, kernel, stride, kernel // 2, groups=groups)
    if kernel == 1:
        conv = PointwiseConv2d(4, 8)
    layer, x = ConvGELU(conv, nn.GELU()), torch.randn(2, 4, 17, 12)
    want = F.gelu(F.conv2d(x, conv.weight, conv.bias, stride, kernel // 2, 1, groups))
    torch.testing.assert_close(layer(x), want)
    monkeypatch.setattr(convolution, 'WIDE_MAP', 1)
    fused = 'mkldnn::_convolution_pointwise'
    assert fused in calls(layer, x)
    torch.testing.assert_close(layer(x), want)
    with torch.autocast('cpu', torch.bfloat16):
        assert fused not in calls(layer, x) and layer(x).dtype == torch.bfloat16
    assert fused not in calls(layer.double(), x.double())
    layer.float()
    seen = []
    conv.register_forward_hook(lambda *args: seen.append(args))
    torch.testing.assert_close(layer(x), want)
    assert len(seen) == 1  # who looks at the convolution finds it


@torch.no_grad()
def test_a_pointwise_convolution_is_a_linear_layer():
    torch.manual_seed(0)
    for bias in (True, False):
        conv, x = PointwiseConv2d(6, 4, bias=bias), torch.randn(2, 6, 5, 7)
        want = F.conv2d(x, conv.weight, conv.bias)
        for memory in (torch.contiguous_format, torch.channels_last):
            torch.testing.assert_close(conv(x.contiguous(memory_format=memory)), want)
        assert 'aten::linear' in calls(conv, x)
    with torch.enable_grad():
        assert conv(x).requires_grad and 'aten::linear' not in calls(conv, x)


@pytest.mark.parametrize('name', ['PSLT', 'PSLT masked'])
def test_shortcuts_count_as_the_steps_they_are(name):
    """The multiply-adds of the deployed form are those of the training form."""
    model = CASES[name].build()
    want = count_flops(model, (3, 96, 75))
    assert count_flops(model.switch_to_deploy(), (3, 96, 75)) == want
