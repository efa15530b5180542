"""Layers that deployment makes of others: the same results, written out or by the layers before."""

import copy

import pytest
import torch
import torch.nn.functional as F
from networks import CASES, as_trained, deviation, images, randomise_norms
from torch import nn

from effvit_mm import count_flops
from effvit_mm.attention import CrossAttention
from effvit_mm.backbones.pslt import InvertedResidual
from effvit_mm.deploy import (
    ShiftedConv2d,
    fold_batch_norms,
    fold_conv_norm,
    fold_linear_norm,
    fold_norm_conv,
    fold_norm_linear,
    modules,
    switch_modules,
)
from effvit_mm.heads import DistilledHeads, LeViTHead, TokenHeads


def random_norm(channels, cls=nn.BatchNorm2d):
    return randomise_norms(nn.ModuleList([cls(channels)])).eval()[0]


def test_folding_is_exact():
    torch.manual_seed(0)
    x, tokens = torch.randn(2, 6, 5, 7), torch.randn(9, 6)
    for groups, bias in ((1, True), (2, False), (6, True)):
        conv = nn.Conv2d(6, 12, (3, 2), 2, (1, 0), groups=groups, bias=bias)
        norm = random_norm(12)
        torch.testing.assert_close(fold_conv_norm(conv, norm)(x), norm(conv(x)))
        norm = random_norm(6)
        torch.testing.assert_close(fold_norm_conv(norm, conv)(x), conv(norm(x)))
    linear, norm = nn.Linear(6, 4), random_norm(4, nn.BatchNorm1d)
    torch.testing.assert_close(fold_linear_norm(linear, norm)(tokens), norm(linear(tokens)))
    norm = random_norm(6, nn.BatchNorm1d)
    torch.testing.assert_close(fold_norm_linear(norm, linear)(tokens), linear(norm(tokens)))
    norm = nn.BatchNorm1d(6, affine=False).eval()
    nn.init.uniform_(norm.running_mean)
    torch.testing.assert_close(fold_norm_linear(norm, linear)(tokens), linear(norm(tokens)))


# Kernel, stride, padding, dilation: zero padding of at most the stride.
GEOMETRIES = [
    (3, 1, 1, 1),
    (3, 2, 1, 1),
    ((3, 2), 2, (1, 0), 1),
    ((2, 5), (1, 2), (0, 2), 1),
    (7, 4, 3, 1),
    (3, 2, 2, 2),
    (2, 2, (2, 1), 1),
    ((1, 3), 1, 1, (1, 2)),
]


@pytest.mark.parametrize('geometry', GEOMETRIES, ids=str)
@pytest.mark.parametrize('groups', [1, 2, 8])
@torch.no_grad()
def test_shift_ends_at_the_padding(groups, geometry):
    """The norm stands in front of the padding: what is padded is zero, not the norm's shift."""
    torch.manual_seed(0)
    norm, conv = random_norm(8), nn.Conv2d(8, 8, *geometry, groups)
    norm.weight[3] = 0  # a channel that is nothing but shift
    folded = fold_norm_conv(norm, conv)
    assert isinstance(folded, ShiftedConv2d)
    for size in [(h, w) for h in (1, 2, 3, 4, 5, 8, 13, 30) for w in (1, 2, 3, 4, 7, 12, 31)]:
        x = torch.randn(2, 8, *size)
        reach = (
            (k - 1) * d + 1 - 2 * p
            for k, d, p in zip(conv.kernel_size, conv.dilation, conv.padding, strict=True)
        )
        if any(side < least for side, least in zip(size, reach, strict=True)):
            continue  # the kernel is larger than the map
        want, before = conv(norm(x)), x.clone()
        for memory in (torch.contiguous_format, torch.channels_last):
            got = folded(x.contiguous(memory_format=memory))
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        assert torch.equal(x, before)


@torch.no_grad()
def test_shift_within_the_map_is_in_the_bias():
    """Scale in the weights, shift in the bias: right within, and wrong at the border."""
    torch.manual_seed(0)
    norm, conv = random_norm(16), nn.Conv2d(16, 16, 3, 1, 1)
    x = torch.randn(2, 16, 9, 7)
    folded, want = fold_norm_conv(norm, conv), conv(norm(x))
    naive = F.conv2d(x, folded.weight, folded.bias, 1, 1)
    assert (naive - want)[:, :, 0].abs().max() > 1e-2
    torch.testing.assert_close(naive[:, :, 1:-1, 1:-1], want[:, :, 1:-1, 1:-1])


def test_shifted_convolutions_have_gradients_and_graphs():
    torch.manual_seed(0)
    norm, conv = random_norm(4).double(), nn.Conv2d(4, 4, 3, 2, 1).double()
    folded = fold_norm_conv(norm, conv)
    for size in ((9, 12), (2, 2)):
        x = torch.randn(2, 4, *size, dtype=torch.double, requires_grad=True)
        grads = [
            torch.autograd.grad(layer(x).square().sum(), x)[0]
            for layer in (folded, nn.Sequential(norm, conv))
        ]
        torch.testing.assert_close(*grads)
        exported = torch.export.export(folded, (x.detach(),)).module()
        torch.testing.assert_close(exported(x), folded(x))


@torch.no_grad()
def test_edges_of_a_network_need_the_correction():
    """Without it PSLT is wrong, and most so at the border: the tests above would see that."""
    model = as_trained(CASES['PSLT'].build(out_indices=0))
    want = model(images(64, 64))[0]
    model.switch_to_deploy()
    assert deviation(model(images(64, 64)), [want]) < 1e-4
    for module in model.modules():
        if isinstance(module, ShiftedConv2d):
            module.border.zero_()
    error = (model(images(64, 64))[0] - want).abs().amax((0, 1))
    assert error.max() > 1e-2 * want.abs().max()
    assert error[0].max() > 2 * error[5:-5, 5:-5].max()


def test_what_cannot_be_folded():
    with pytest.raises(ValueError, match='running statistics'):
        fold_conv_norm(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    for bad in (
        nn.Conv2d(3, 3, 3, padding=1, padding_mode='reflect'),
        nn.Conv2d(3, 3, 5, padding=2),
        nn.Conv2d(3, 3, 3, padding='same'),
    ):
        with pytest.raises(ValueError, match='padding'):
            fold_norm_conv(nn.BatchNorm2d(3), bad)


@torch.no_grad()
def test_norms_without_a_convolution_stay():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.BatchNorm2d(4))
    second = nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU(), nn.BatchNorm2d(5))
    for part in (first, second):
        randomise_norms(part).eval()
    x = torch.randn(2, 3, 8, 8)
    want = second(first(x))
    fold_batch_norms(first, second)
    assert [type(m) for m in first] == [nn.Conv2d, nn.GELU]
    assert [type(m) for m in second] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    torch.testing.assert_close(second(first(x)), want)


# --- inverted residuals -------------------------------------------------------------------------


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(13, 9), (12, 16), (1, 1), (2, 5), (64, 90)], ids=str)
@pytest.mark.parametrize('band', [1, 1 << 12, 1 << 14, 1 << 18])
@torch.no_grad()
def test_bands_are_seamless(stride, size, band, monkeypatch):
    """One row at a time, some, whole images, groups of images: the same map."""
    torch.manual_seed(0)
    block = randomise_norms(InvertedResidual(6, 6, stride)).eval()
    x = torch.randn(3, 6, *size).contiguous(memory_format=torch.channels_last)
    want = block(x)
    monkeypatch.setattr(modules, 'BAND', band)
    deployed = switch_modules(block)
    torch.testing.assert_close(deployed(x), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(deployed(x.contiguous()), want, rtol=1e-5, atol=1e-5)
    with torch.autocast('cpu', torch.bfloat16):
        half = deployed(x)
    assert half.dtype == (torch.bfloat16 if stride == 2 else torch.float32)  # plus the input
    torch.testing.assert_close(half.float(), want, rtol=0.05, atol=0.05)


def test_gradients_through_bands(monkeypatch):
    torch.manual_seed(0)
    block = randomise_norms(InvertedResidual(6, 6, 1)).eval().double()
    x = torch.randn(3, 6, 13, 9, dtype=torch.double, requires_grad=True)
    (want,) = torch.autograd.grad(block(x).square().sum(), x)
    monkeypatch.setattr(modules, 'BAND', 1 << 12)
    (got,) = torch.autograd.grad(switch_modules(block)(x).square().sum(), x)
    torch.testing.assert_close(got, want)


@torch.no_grad()
def test_wide_maps_are_never_whole():
    """The largest piece of memory that a deployed block asks for is a band, not the wide map."""
    block = switch_modules(randomise_norms(InvertedResidual(8, 8, 1)).eval())
    x = torch.randn(1, 8, 400, 400).contiguous(memory_format=torch.channels_last)
    with torch.profiler.profile(profile_memory=True) as profile:
        block(x)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert x.nbytes <= largest < 2 * x.nbytes  # the wide map has four times as many


@pytest.mark.parametrize('name', ['PSLT', 'PSLT masked'])
def test_multiply_adds_of_pslt_stay(name):
    """But for what the border of a convolution costs whose norm stands in front of it."""
    model = CASES[name].build()
    want = count_flops(model, (3, 96, 75))
    assert want <= count_flops(model.switch_to_deploy(), (3, 96, 75)) < 1.01 * want


# --- cross-attention ----------------------------------------------------------------------------


@pytest.mark.parametrize('padded', [False, True])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('batch', [1, 3])
def test_one_query_needs_no_keys_and_values(batch, bias, padded):
    torch.manual_seed(0)
    layer = CrossAttention(24, 3, qkv_bias=bias).double().eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    folded = switch_modules(copy.deepcopy(layer))
    x = torch.randn(batch, 17, 24, dtype=torch.double, requires_grad=True)
    valid = torch.arange(17) < torch.tensor([[17], [9], [1]])[:batch] if padded else None
    results = [layer(x, valid), folded(x, valid)]
    torch.testing.assert_close(*results)
    grads = [torch.autograd.grad(out.square().sum(), x)[0] for out in results]
    torch.testing.assert_close(*grads)
    if padded:
        assert not grads[1][~valid].any()


def test_one_query_saves_computation():
    """Two projections of 17 tokens less; the same of one token and three heads instead."""

    class Tokens(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x.flatten(2).mT)

    layer = CrossAttention(24, 3).eval()
    want = count_flops(Tokens(layer), (1, 24, 17, 1))
    assert count_flops(Tokens(switch_modules(layer)), (1, 24, 17, 1)) < 0.5 * want


# --- heads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'head',
    [LeViTHead(12, 5), TokenHeads([4, 8], 5), DistilledHeads([6, 6], 5)],
    ids=lambda head: type(head).__name__,
)
@torch.no_grad()
def test_heads_become_one_layer(head):
    torch.manual_seed(0)
    head, x = randomise_norms(copy.deepcopy(head)).eval(), torch.randn(3, 12)
    for parameter in head.parameters():
        nn.init.uniform_(parameter)
    want = head.logits(x)
    for _ in range(2):
        assert switch_modules(head) is head
        torch.testing.assert_close(head.logits(x), want)
    (layer,) = (m for m in head.modules() if isinstance(m, nn.Linear))
    assert (layer.in_features, layer.out_features) == (12, 5)
    assert all(torch.equal(branch, head.logits(x)) for branch in head.branches(x))
