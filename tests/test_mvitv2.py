"""MViTv2 against timm's, and the mechanisms that may replace its attention."""

from copy import deepcopy

import pytest
import timm
import torch
import torch.nn.functional as F
from networks import CASTLING, images
from networks import MVITV2 as SMALL
from timm.models.mvitv2 import cal_rel_pos_type

import effvit_mm
from effvit_mm.backbones.mvitv2 import (
    DecomposedRelativePosition,
    MViTv2,
    TokenPooling,
    relative_position_index,
)
from effvit_mm.flops import count_flops
from effvit_mm.registry import MODELS

# (parameters in millions, multiply-adds in billions) at 224, of the paper's table 1 (a).
PUBLISHED = {'tiny': (24, 4.7), 'small': (35, 7.0), 'base': (52, 10.2)}


@MODELS.register_module(name='TestMeanAttention')
class MeanAttention(torch.nn.Module):
    """A mechanism that knows no bias: the values' mean for every query."""

    def __init__(self, num_heads, key_dim, value_dim):
        super().__init__()

    def forward(self, q, k, v, layout, bias=None):
        assert bias is None
        assert layout.num_extra_tokens == 0
        assert q.shape[2] == layout.query_grid[0] * layout.query_grid[1]
        assert k.shape[2] == layout.key_grid[0] * layout.key_grid[1]
        return v.mean(2, keepdim=True).expand(*q.shape[:3], v.shape[-1])


def pair(arch):
    """timm's network with weights that hide nothing (no zeros, no ones), and ours with the same."""
    torch.manual_seed(0)
    reference = timm.create_model(f'mvitv2_{arch}').eval()
    for name, parameter in reference.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(name.endswith('weight')), std=0.3)
        elif 'rel_pos' in name:
            torch.nn.init.normal_(parameter, std=0.2)
    ours = effvit_mm.create_model(f'mvitv2_{arch}').eval()
    state = effvit_mm.convert_state_dict(reference.state_dict(), f'mvitv2_{arch}')
    ours.load_state_dict(state)
    return reference, ours


def resize_tables(reference, size):
    """Interpolate the tables of timm's network to another input size, as its loader does."""
    for axis, side in (('rel_pos_h', size[0]), ('rel_pos_w', size[1])):
        grid = side // 4
        for stage in reference.stages:
            for block in stage.blocks:
                stride_q, stride_k = (p.stride[0] for p in (block.attn.pool_q, block.attn.pool_k))
                rows = 2 * (grid // min(stride_q, stride_k)) - 1
                grid //= stride_q
                table = getattr(block.attn, axis).T[None]
                table = F.interpolate(table, size=rows, mode='linear')[0].T
                setattr(block.attn, axis, torch.nn.Parameter(table))


def check_against_timm(arch):
    """Logits, parameters and multiply-adds; returns what was measured."""
    reference, ours = pair(arch)
    measured = {}
    for size in ((224, 224), (256, 128), (128, 128), (384, 384)):
        with torch.no_grad():
            other = deepcopy(reference)
            if size != (224, 224):
                resize_tables(other, size)
            want, got = other(images(*size)), ours(images(*size))
        measured[size] = float((want - got).abs().max() / want.abs().max())
        assert measured[size] < 1e-4
        assert want.std() > 0.1 and not torch.allclose(want[0], want[1], rtol=0.01)
    reference = timm.create_model(f'mvitv2_{arch}')
    measured['parameters'] = [sum(p.numel() for p in m.parameters()) for m in (reference, ours)]
    measured['flops'] = [count_flops(m, (3, 224, 224)) for m in (reference, ours)]
    for count in ('parameters', 'flops'):
        assert measured[count][0] == measured[count][1]
    millions, billions = PUBLISHED[arch]
    assert measured['parameters'][1] / 1e6 == pytest.approx(millions, abs=0.6)  # base: 51.47
    assert measured['flops'][1] / 1e9 == pytest.approx(billions, abs=0.1)
    return measured


def test_equals_timm():
    check_against_timm('tiny')


@torch.no_grad()
def test_maps_are_those_of_timms_stages():
    reference, ours = pair('tiny')
    backbone = MViTv2('tiny', out_indices=range(4), final_norm=False).eval()
    backbone.load_state_dict(ours.backbone.state_dict(), strict=False)
    want = reference.forward_intermediates(images(224, 224), intermediates_only=True)
    for a, b in zip(backbone(images(224, 224)), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize(
    ('query', 'key'), [((6, 8), (6, 8)), ((8, 12), (4, 3)), ((4, 6), (8, 12)), ((7, 9), (2, 3))]
)
@torch.no_grad()
def test_relative_positions_equal_timms(query, key):
    torch.manual_seed(0)
    ours = DecomposedRelativePosition(5, 12)
    ours.rel_pos_h = torch.nn.Parameter(torch.randn(2 * max(query[0], key[0]) - 1, 5))
    ours.rel_pos_w = torch.nn.Parameter(torch.randn(2 * max(query[1], key[1]) - 1, 5))
    q = torch.randn(2, 3, *query, 5)
    zeros = torch.zeros(2, 3, query[0] * query[1], key[0] * key[1])
    want = cal_rel_pos_type(
        zeros, q.flatten(2, 3), False, query, key, ours.rel_pos_h, ours.rel_pos_w
    )
    torch.testing.assert_close(ours(q, key, tuple(map(max, query, key))), want)


@pytest.mark.parametrize('queries', [1, 2, 7, 25, 56])
@pytest.mark.parametrize('keys', [1, 3, 7, 14, 84])
def test_offsets_stay_in_their_table(queries, keys):
    """Rising with the query's place, falling with the key's; equal sides use every row."""
    index = relative_position_index(queries, keys, max(queries, keys), torch.device('cpu'))
    assert index.shape == (queries, keys)
    assert index.min() >= 0 and index.max() <= 2 * max(queries, keys) - 2
    assert (index.diff(dim=0) >= 0).all() and (index.diff(dim=1) <= 0).all()
    if queries == keys:
        assert index.unique().numel() == 2 * queries - 1


@torch.no_grad()
def test_pooling_is_one_for_each_head():
    pool, x = TokenPooling(4, 2), torch.randn(2, 5, 7, 12)
    heads = [pool(part)[:, 0] for part in x.split(4, -1)]
    torch.testing.assert_close(pool(x), torch.stack(heads, 1))
    assert pool(x).shape == (2, 3, 3, 4, 4)


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (256, 128), (97, 225)], ids=str)
@torch.no_grad()
def test_maps_of_any_size(size):
    maps = MViTv2(SMALL, out_indices=range(4)).eval()(images(*size))
    for out, width, stride in zip(maps, (12, 24, 48, 96), (4, 8, 16, 32), strict=True):
        assert out.shape == (2, width, -(-size[0] // stride), -(-size[1] // stride))


@torch.no_grad()
def test_relative_positions_matter():
    torch.manual_seed(0)
    model = MViTv2(SMALL).eval()
    before = model(images(96, 64))[0]
    for module in model.modules():
        if isinstance(module, DecomposedRelativePosition):
            torch.nn.init.normal_(module.rel_pos_w)
    assert not torch.allclose(model(images(96, 64))[0], before, rtol=0.01, atol=0.01)


def test_a_mechanism_without_bias_has_no_relative_positions():
    model = MViTv2(SMALL, attention={'type': 'TestMeanAttention'}, drop_path_rate=0.0)
    assert not any('rel_pos' in name for name in model.state_dict())
    model(images(64, 96))[0].square().mean().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None]
    assert all('attn.pool_k' in name for name in idle)  # this mechanism uses no keys


def test_bias_of_a_training_branch_goes_with_it():
    model = MViTv2(SMALL, **CASTLING)
    assert any('rel_pos' in name for name in model.state_dict())
    assert not any('rel_pos' in name for name in model.switch_to_deploy().state_dict())


def test_deploying_softmax_keeps_its_relative_positions():
    model = MViTv2(SMALL)
    names = {name for name in model.state_dict() if 'rel_pos' in name}
    assert names <= model.switch_to_deploy().state_dict().keys()


def test_tables_follow_the_image_size():
    rows = {
        len(p)
        for name, p in MViTv2('tiny', img_size=256).named_parameters()
        if name.endswith('rel_pos_w')
    }
    assert rows == {127, 63, 31, 15}
    with pytest.raises(ValueError, match='img_size=16'):
        MViTv2(SMALL, img_size=16)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match='num_heads=5'):
        MViTv2({**SMALL, 'num_heads': 5})
