"""CrossViT's deployed form: other steps, the training form's results."""

import copy

import pytest
import torch
import torch.nn.functional as F
from test_crossvit import SMALL, images, randomise, tensors
from test_eager import calls
from torch.utils.flop_counter import FlopCounterMode

from effvit_mm.attention import CrossAttention
from effvit_mm.backbones import CrossViT, crossvit_stem
from effvit_mm.backbones.crossvit_blocks import TokenGELU
from effvit_mm.deploy import linear

SIZES = ((32, 32), (97, 225), (240, 240))
NETWORKS = [
    {'mode': 'parity', 'out_type': 'cls_token'},
    {'mode': 'dense', 'out_type': 'featmap'},
    {'mode': 'dense', 'out_type': 'cls_token', 'window_size': 3},
    {'arch': {**SMALL, 'patch_embed': 'linear'}, 'out_type': 'cls_token'},
]


def networks(kwargs):
    """The training form in evaluation mode, and the deployed form of the same weights."""
    torch.manual_seed(0)
    plain = randomise(CrossViT(**{'arch': SMALL, **kwargs})).eval()
    return plain, copy.deepcopy(plain).switch_to_deploy()


def assert_close(got, want, bound=1e-5):
    for a, b in zip(tensors(got), tensors(want), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= bound * b.abs().max()


@pytest.fixture
def packing(monkeypatch):
    """Weights of small layers are packed too."""
    monkeypatch.setattr(linear, 'LARGE_PRODUCT', 1)
    monkeypatch.setattr(linear, 'LARGE_WEIGHT', 1)


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('kwargs', NETWORKS, ids=str)
@torch.no_grad()
def test_outputs_stay(kwargs, batch, packing):
    """At the first call, at the one that packs, at the one that has packed; size after size."""
    plain, deployed = networks(kwargs)
    names = list(deployed.state_dict())
    for size in SIZES:
        x = images(*size, batch=batch)
        want = plain(x)
        for memory in (torch.contiguous_format, torch.contiguous_format, torch.channels_last):
            assert_close(deployed(x.contiguous(memory_format=memory)), want)
    assert {'mkl::_mkl_linear'} <= calls(deployed, x)
    assert list(deployed.state_dict()) == names


@pytest.mark.parametrize('kwargs', NETWORKS, ids=str)
def test_gradients_of_the_image(kwargs, packing):
    found = []
    for model in networks(kwargs):
        x = images(97, 225, batch=2).requires_grad_()
        sum(t.square().sum() for t in tensors(model(x))).backward()
        found.append(x.grad)
    assert_close([found[1]], [found[0]], 1e-4)


@pytest.mark.parametrize('kwargs', NETWORKS, ids=str)
@torch.no_grad()
def test_autocast_is_no_coarser(kwargs, packing):
    plain, deployed = networks(kwargs)
    x = images(97, 225, batch=2)
    exact = tensors(plain(x))
    for _ in range(2):
        deployed(x)
    with torch.autocast('cpu', torch.bfloat16):
        rough, own = tensors(plain(x)), tensors(deployed(x))
    for a, b, c in zip(own, rough, exact, strict=True):
        assert a.dtype == b.dtype
        assert (a.float() - c).norm() < 1.5 * (b.float() - c).norm() + 1e-3 * c.norm()


@pytest.mark.parametrize('kwargs', NETWORKS[2:], ids=str)
@torch.no_grad()
def test_exported(kwargs, packing):
    _, deployed = networks(kwargs)
    x = images(97, 64)
    exported = torch.export.export(deployed, (x,)).module()
    assert_close(exported(x), deployed(x))


@torch.no_grad()
def test_hooks_see_what_the_layers_gave():
    """The exchange writes over nothing that a block has returned."""
    plain, deployed = networks(NETWORKS[0])
    seen = []
    for model in (plain, deployed):
        model.stages[0].blocks[0][0].register_forward_hook(lambda m, args, out: seen.append(out))
        model(images(64, 64))
    torch.testing.assert_close(seen[1], seen[0])


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('batch', [1, 3])
def test_one_query_needs_no_keys_and_values(batch, bias):
    torch.manual_seed(0)
    layer = randomise(CrossAttention(24, 3, qkv_bias=bias)).double()
    folded = copy.deepcopy(layer).switch_to_deploy()
    x = torch.randn(batch, 17, 24, dtype=torch.double, requires_grad=True)
    results = [layer(x), folded(x)]
    torch.testing.assert_close(*results)
    grads = [torch.autograd.grad(out.square().sum(), x)[0] for out in results]
    torch.testing.assert_close(*grads)
    # Two projections of 17 tokens less; the same of one token and three heads instead.
    counts = []
    for each in (folded, layer):
        with FlopCounterMode(display=False) as counter:
            each(x)
        counts.append(counter.get_total_flops())
    assert counts[0] < 0.5 * counts[1]


@pytest.mark.parametrize(
    ('old', 'new'), [((240, 240), (224, 224)), ((33, 57), (35, 60)), ((8, 9), (3, 31))], ids=str
)
@torch.no_grad()
def test_images_resized_by_products(old, new, monkeypatch):
    monkeypatch.setattr(crossvit_stem, 'BAND', 13)
    crossvit_stem.bicubic_bands.cache_clear()
    for x in (images(*old, batch=2), images(*old[::-1]).transpose(2, 3)):
        want = F.interpolate(x, size=new, mode='bicubic', align_corners=False)
        with torch.autocast('cpu', torch.bfloat16):
            rough = crossvit_stem.resize_images(x, new)
        for got in (crossvit_stem.resize_images(x, new), rough):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert 'aten::upsample_bicubic2d' not in calls(crossvit_stem.resize_images, x, new)
    crossvit_stem.bicubic_bands.cache_clear()


def test_gelu_of_a_token():
    x = torch.linspace(-9, 9, 301)
    exact = F.gelu(x.double())
    off, own = ((got - exact).abs().max() for got in (TokenGELU()(x), F.gelu(x)))
    assert off <= own < 1e-6
    asks = x.clone().requires_grad_()
    assert TokenGELU()(asks).requires_grad
