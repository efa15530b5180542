"""Shortcuts of eager inference: the results of the plain steps, and only where they are allowed."""

import pytest
import torch
import torch.nn.functional as F
from effvit_mm.attention.eager import add, gelu, linear, runs_eagerly
from test_contract import CASES, images, randomise_norms
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from effvit_mm.attention import eager, windows
from effvit_mm.attention.windows import join_heads, split_heads
from effvit_mm.backbones.pslt import InvertedResidual
from effvit_mm.deploy import ConvGELU, PointwiseConv2d, convolution
from effvit_mm.flops import count_flops


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


def test_sums_are_written_only_where_nobody_looks():
    x, y = torch.randn(5, requires_grad=True), torch.randn(5)
    start = x * 1
    want, half = x.detach() + y, y.bfloat16()
    torch.testing.assert_close(add(start, y), want)
    assert torch.equal(start, x)
    with torch.no_grad():
        assert add(half, start).dtype == torch.float32
        assert torch.equal(add(start, y), want) and torch.equal(start, want)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(40, 6), (2, 4, 5, 6), (1, 39, 6)], ids=str)
@torch.no_grad()
def test_many_rows_go_to_onednn(bias, shape, monkeypatch):
    """With PyTorch's numbers, whatever the strides; never past a hook or another layer."""
    torch.manual_seed(0)
    monkeypatch.setattr(eager, 'MANY_ROWS', 40)
    layer, pixels, x = nn.Linear(6, 8, bias), PointwiseConv2d(6, 8, bias), torch.randn(shape)
    pixels.weight.copy_(layer.weight[:, :, None, None])
    pixels.bias = layer.bias
    fused, many = 'mkldnn::_linear_pointwise', x.numel() >= 240
    doubled = x.repeat(2, *(1,) * (x.ndim - 1))
    for strided in (x, x.transpose(0, -2).contiguous().transpose(0, -2), doubled[::2]):
        want = F.linear(strided, layer.weight, layer.bias)
        torch.testing.assert_close(linear(layer, strided), want)
        assert (fused in calls(linear, layer, strided)) == many
        if x.ndim == 4:
            maps, want = strided.permute(0, 3, 1, 2), want.permute(0, 3, 1, 2)
            torch.testing.assert_close(pixels(maps), want)
            assert (fused in calls(pixels, maps)) == many
    assert fused not in calls(linear, nn.Sequential(layer), x)
    with torch.autocast('cpu', torch.bfloat16):
        assert linear(layer, x).dtype == torch.bfloat16
    want = F.linear(x, layer.weight, layer.bias) + 1
    layer.register_forward_hook(lambda module, inputs, output: output + 1)
    torch.testing.assert_close(linear(layer, x), want)


@pytest.mark.parametrize('shift', [0, -2, 3])
@pytest.mark.parametrize(('batch', 'count', 'heads'), [(1, 3, 2), (3, 2, 4), (2, 1, 1)])
def test_rows_in_order_are_the_strided_copies(shift, batch, count, heads):
    torch.manual_seed(0)
    x = torch.randn(batch, 8, 15, count * heads * 6)
    split, join = ((4, 5), shift, count, heads), ((4, 5), shift, (8, 15), heads)
    plain = windows._split_heads(x, *split)
    assert plain.shape == (count, batch, 6 * heads, 20, 6)
    assert torch.equal(windows._join_heads(plain[0], *join), x[..., : heads * 6])
    for _ in range(2):
        assert torch.equal(split_heads(x, *split), plain)
        for t in (plain[0], plain[0].transpose(1, 2).contiguous().transpose(1, 2)):
            assert torch.equal(join_heads(t, *join), x[..., : heads * 6])
    assert 'aten::index_select' in calls(split_heads, x, *split)


@pytest.mark.parametrize('shift', [0, 1])
def test_derivatives_of_rows_in_order(shift):
    """First and second ones, gradients that are no contiguous tensors, and forward mode."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 2 * 3, dtype=torch.float64, requires_grad=True)
    split, join = ((2, 3), shift, 2, 1), ((2, 3), shift, (4, 6), 1)

    def both(x):
        first, second = split_heads(x, *split).tanh()
        return join_heads(first, *join), second.transpose(-2, -1)

    assert torch.autograd.gradcheck(both, x)
    assert torch.autograd.gradgradcheck(both, x)
    tangent = torch.randn_like(x)
    _, moved = torch.func.jvp(lambda x: split_heads(x, *split), (x.detach(),), (tangent,))
    assert torch.equal(moved, split_heads(tangent, *split))


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
    with torch.autocast('cpu', torch.bfloat16):
        half = block(x)
    assert half.dtype == (torch.bfloat16 if stride == 2 else torch.float32)  # plus the input
    torch.testing.assert_close(half.float(), want, rtol=0.05, atol=0.05)


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
