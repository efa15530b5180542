"""LeViT equals timm's, and what it adds: any size, any mechanism."""

import pytest
import timm
import torch
import torch.nn.functional as F
from networks import LEVIT as SMALL
from networks import images
from torch import nn

from effvit_mm.attention import Layout
from effvit_mm.backbones.base import BatchNorm
from effvit_mm.backbones.levit import Attention, DistanceBias, LeViT, SubsampleAttention
from effvit_mm.flops import count_flops, count_parameters
from effvit_mm.heads import LeViTHead
from effvit_mm.registry import MODELS
from effvit_mm.weights.names.levit import RULES
from effvit_mm.weights.names.rules import rename

# The paper's figures as printed, multiply-adds (M) and parameters (M), and timm's exact ones.
PUBLISHED = {
    '128s': (305, 7.8, 304_660_832, 7_777_058),
    '128': (406, 9.2, 405_321_728, 9_213_936),
    '192': (658, 11, 657_022_080, 10_947_069),
    '256': (1120, 19, 1_127_257_344, 18_893_876),
    '384': (2353, 39, 2_351_786_880, 39_128_836),
}


class Network(nn.Module):
    """Backbone, mean pooling and head, named as the classifier's."""

    def __init__(self, arch, **kwargs):
        super().__init__()
        self.backbone = LeViT(arch, **kwargs)
        self.head = LeViTHead(self.backbone.out_channels[-1], 1000)

    def forward(self, x):
        return self.head(self.backbone(x))


class MeanAttention(nn.Module):
    """A mechanism of linear cost that has no use for a bias: each query gets the values' mean."""

    takes_bias = False

    def __init__(self, num_heads, key_dim, value_dim):
        super().__init__()
        self.shapes = (num_heads, key_dim, value_dim)
        self.layouts = []

    def forward(self, q, k, v, layout, bias=None):
        assert bias is None
        assert self.shapes == (q.shape[1], k.shape[3], v.shape[3])
        self.layouts.append(layout)
        return v.mean(2, keepdim=True).expand(-1, -1, q.shape[2], -1)


@pytest.fixture
def mean_attention():
    MODELS.register_module(name='MeanAttention', module=MeanAttention)
    yield {'type': 'MeanAttention'}
    MODELS.module_dict.pop('MeanAttention')


def randomise(model):
    """Weights as after training: zero scales and biases would hide what they multiply."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith(('running_var', 'bn.weight', 'norm.weight')):
            nn.init.uniform_(value, 0.6, 1.5)
        elif name.endswith(('attention_biases', 'bias.table')):
            nn.init.normal_(value)
        elif name.endswith(('bias', 'running_mean')):
            nn.init.uniform_(value, -0.2, 0.2)
        elif value.ndim > 1:
            nn.init.kaiming_normal_(value)
    return model


def calibrated_timm(arch, size=(224, 224)):
    """timm's model, random, its norms' statistics those of one batch.

    So no signal fades or explodes on the way, and each weight has its say in the result.
    """
    model = randomise(timm.create_model(f'levit_{arch}', img_size=size))
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 0.9
    with torch.no_grad():
        model.train()
        model(images(*size, batch=4))
    return model.eval()


def converted(state):
    return {rename(name, RULES): value for name, value in state.items()}


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize('arch', ['128s', '192'])
@torch.no_grad()
def test_equals_timm(arch):
    theirs = calibrated_timm(arch)
    ours = Network(arch, out_indices=range(4)).eval()
    ours.load_state_dict(converted(theirs.state_dict()))
    x = images(224, 224)
    maps = ours.backbone(x)
    close(maps[0], nn.Sequential(*theirs.stem)[:6](x))
    for out, expected in zip(maps[1:], theirs.forward_intermediates(x)[1], strict=True):
        close(out, expected)
    close(ours(x), theirs(x))


@torch.no_grad()
def test_equals_timm_built_for_other_images():
    size = (96, 160)
    theirs = calibrated_timm('128s', size)
    ours = Network('128s', img_size=size).eval()
    ours.load_state_dict(converted(theirs.state_dict()))
    close(ours(images(*size)), theirs(images(*size)))


@pytest.mark.parametrize('arch', PUBLISHED)
def test_names_and_counts_are_the_published(arch):
    printed_flops, printed_parameters, flops, parameters = PUBLISHED[arch]
    with torch.device('meta'):
        theirs, ours = timm.create_model(f'levit_{arch}'), Network(arch)
    state = {name: value.shape for name, value in ours.state_dict().items()}
    assert {k: v.shape for k, v in converted(theirs.state_dict()).items()} == state
    assert count_parameters(ours) == count_parameters(theirs) == parameters
    for model in (ours, theirs):
        assert count_flops(model, (3, 224, 224)) == flops
    assert flops / 1e6 == pytest.approx(printed_flops, rel=0.01)
    assert parameters / 1e6 == pytest.approx(printed_parameters, rel=0.01)


def test_channels_and_strides():
    with torch.device('meta'):
        backbone = LeViT('384', out_indices=range(4))
    assert backbone.out_channels == (192, 384, 512, 768)
    assert backbone.out_strides == (8, 16, 32, 64)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('grid', [(4, 6), (5, 3), (1, 1)], ids=str)
@torch.no_grad()
def test_bias_is_that_of_the_distance(grid, stride):
    bias = DistanceBias(2, grid, stride)
    nn.init.normal_(bias.table)
    queries = tuple(-(-n // stride) for n in grid)
    out = bias(Layout(queries, grid))
    assert out.shape == (1, 2, queries[0] * queries[1], grid[0] * grid[1])
    out, table = out.view(2, *queries, *grid), bias.table.view(2, *grid)
    for a, b, y, x in torch.cartesian_prod(*map(torch.arange, (*queries, *grid))).tolist():
        expected = table[:, abs(stride * a - y), abs(stride * b - x)]
        assert torch.equal(out[:, a, b, y, x], expected)


@pytest.mark.parametrize('grid', [(28, 7), (3, 20), (1, 2)], ids=str)
@torch.no_grad()
def test_bias_of_other_grids_keeps_its_ends(grid):
    bias = DistanceBias(2, (14, 14))
    nn.init.normal_(bias.table)
    table = bias.table.view(2, 14, 14)
    out = bias(Layout(grid, grid)).view(2, *grid, *grid)
    height, width = (n - 1 for n in grid)
    torch.testing.assert_close(out[:, 0, 0, 0, 0], table[:, 0, 0])
    torch.testing.assert_close(out[:, height, width, 0, 0], table[:, -(height > 0), -1])
    linear = nn.Parameter(torch.arange(14.0).repeat(2, 14))  # rises with |dx| from 0 to 13
    bias.table = linear
    out = bias(Layout(grid, grid)).view(2, *grid, *grid)
    torch.testing.assert_close(out[0, 0, 0, 0], torch.linspace(0, 13, grid[1]))


@pytest.mark.parametrize('grid', [(4, 6), (5, 3)], ids=str)
@torch.no_grad()
def test_bias_steers_attention(grid):
    """A bias against all distances but 0 leaves each token its own value."""
    x = torch.randn(2, *grid, 16)
    same = randomise(Attention(16, 2, 8, grid, None)).eval()
    halved = randomise(SubsampleAttention(16, 24, 8, grid, None)).eval()
    for module in (same, halved):
        module.relative_position_bias.table.fill_(-100).view(2, *grid)[:, 0, 0] = 0
    tokens, second = x.flatten(1, 2), x[:, ::2, ::2].flatten(1, 2)
    values = same.qkv(tokens).unflatten(-1, (2, -1))[..., 16:].flatten(-2)
    torch.testing.assert_close(same(tokens, grid), same.proj(F.hardswish(values)))
    values = halved.kv(second).unflatten(-1, (2, -1))[..., 8:].flatten(-2)
    torch.testing.assert_close(halved(tokens, grid), halved.proj(F.hardswish(values)))


@torch.no_grad()
def test_smallest_images_give_maps_of_one_token():
    maps = randomise(LeViT(SMALL, out_indices=range(4))).eval()(images(32, 32))
    assert [m.shape[-1] for m in maps] == [4, 2, 1, 1]


def test_fresh_residual_branches_are_identities():
    block = LeViT(SMALL).stages[1][1]
    x = torch.randn(2, 16, 5, 3)
    assert torch.equal(block(x), x)


def test_fresh_network_trains():
    """Zeroed scales hold back all else in their branch for one step, not for ever."""
    model = LeViT(SMALL, img_size=96)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(model(images(96, 96, batch=4))[0], torch.ones(4, 32, 2, 2)).backward()
        optimizer.step()
    assert all(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize('size', [(33, 47), (256, 128), (97, 225)], ids=str)
def test_mechanism_without_bias(mean_attention, size):
    model = LeViT(SMALL, out_indices=range(4), attention=mean_attention)
    assert not any('relative_position_bias' in name for name, _ in model.named_parameters())
    maps = model.eval()(images(*size))
    (layout,) = model.stages[2][0].attn.mechanism.layouts
    grids = [tuple(m.shape[-2:]) for m in maps]
    assert layout == Layout(grids[2], grids[1], 0)
    assert grids[1:] == [tuple(-(-n // stride) for n in size) for stride in (16, 32, 64)]


def test_bias_is_made_where_it_is_used_alone(monkeypatch):
    """A mechanism may take a bias while it trains only: evaluation then builds no N x M matrix."""
    model = LeViT(SMALL)
    attention = model.stages[1][1].attn
    monkeypatch.setattr(type(attention.mechanism), 'takes_bias', False)
    monkeypatch.setattr(DistanceBias, 'forward', lambda *_: pytest.fail('bias was built'))
    with torch.no_grad():
        model.eval()(images(64, 64))


@pytest.mark.parametrize(
    ('arch', 'message'),
    [
        ({**SMALL, 'depths': (1, 1)}, 'depths='),
        ({**SMALL, 'embed_dims': (20, 24, 32)}, 'multiple of 8'),
        ({**SMALL, 'key_dim': 16}, r'key_dim=16 must divide'),
    ],
    ids=['stages', 'stem', 'heads'],
)
def test_arch_is_checked(arch, message):
    with pytest.raises(ValueError, match=message):
        LeViT(arch)


@pytest.mark.parametrize('bad', [0, (224,), (224, -1), 'large'], ids=str)
def test_img_size_is_checked(bad):
    with pytest.raises(ValueError, match='img_size'):
        LeViT(SMALL, img_size=bad)


def test_head_averages_its_branches():
    head = LeViTHead(8, 5)
    x = torch.randn(4, 8)
    head.eval()
    label, teacher = head.branches(x)
    assert not torch.equal(label, teacher)
    torch.testing.assert_close(head.logits(x), (label + teacher) / 2)
