"""Linear layers and what follows them in one step: the plain steps' results, where allowed."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from effvit_mm.backbones.mlp import MLP
from test_eager import calls
from torch import nn

from effvit_mm.deploy import PackedWeight, linear_add, linear_gelu, packed_linear
from effvit_mm.deploy import linear as steps

FUSED = 'mkl::_mkl_linear'
PACKING = 'mkl::_mkl_reorder_linear_weight'


def layer_and_input(bias=True, shape=(2, 5, 6)):
    torch.manual_seed(0)
    layer = nn.Linear(shape[-1], 8, bias=bias).requires_grad_(False)
    kept = PackedWeight()
    kept.active = True
    return layer, torch.randn(shape), kept


def results(layer, x, residual, kept):
    return (
        packed_linear(layer, x, kept),
        linear_gelu(layer, x, kept),
        linear_add(layer, x, residual, kept),
    )


@pytest.fixture
def always(monkeypatch):
    """Small products too."""
    monkeypatch.setattr(steps, 'LARGE_PRODUCT', 1)
    monkeypatch.setattr(steps, 'LARGE_WEIGHT', 1)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(1, 6), (3, 5, 6), (2, 4, 3, 6), (0, 5, 6)], ids=str)
@torch.no_grad()
def test_one_step_equals_the_plain_ones(bias, shape, always):
    layer, x, kept = layer_and_input(bias, shape)
    y = F.linear(x, layer.weight, layer.bias)
    residual = torch.randn_like(y)
    for strided in (
        x,
        x.transpose(0, -2).contiguous().transpose(0, -2),
        x.repeat(2, *(1,) * (x.ndim - 1))[::2],
    ):
        y = F.linear(strided, layer.weight, layer.bias)
        before = residual.clone()
        assert (FUSED in calls(results, layer, strided, residual, kept)) == bool(len(x))
        for got, want in zip(
            results(layer, strided, residual, kept), (y, F.gelu(y), residual + y), strict=True
        ):
            torch.testing.assert_close(got, want)
        assert torch.equal(residual, before)


@torch.no_grad()
def test_weights_are_packed_once_and_anew_when_they_change(always):
    layer, x, kept = layer_and_input()

    def packs():
        """At the second call, not at the first and the third; the results stay right."""
        want = F.linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(packed_linear(layer, x, kept), want)
        found = [PACKING in calls(packed_linear, layer, x, kept) for _ in range(2)]
        torch.testing.assert_close(packed_linear(layer, x, kept), want)
        return found == [True, False]

    assert packs()
    layer.weight.mul_(2)
    assert packs()
    layer.load_state_dict({'weight': torch.randn(8, 6), 'bias': torch.randn(8)})
    assert packs()
    with torch.inference_mode():
        layer.weight.data = torch.randn(8, 6)
        assert packs()


@torch.no_grad()
def test_sizes_that_change_are_not_packed_for(always):
    layer, _, kept = layer_and_input()
    for rows in (5, 6, 5, 7, 6, 5):
        assert not {PACKING, FUSED} & calls(packed_linear, layer, torch.randn(rows, 6), kept)
    x = torch.randn(5, 6)
    assert PACKING in calls(packed_linear, layer, x, kept)
    assert FUSED in calls(packed_linear, layer, x[None], kept)  # the same number of rows
    kept.forget()
    assert not {PACKING, FUSED} & calls(packed_linear, layer, x, kept)


@torch.no_grad()
def test_a_module_that_moves_forgets(always):
    """Freed weights leave their place in memory to others."""
    mlp, x = MLP(6, 8).eval().switch_to_deploy(), torch.randn(2, 5, 6)
    mlp(x), mlp(x)
    assert all(packed.kept[1] is not None for packed in mlp.packed)
    mlp.bfloat16().float()
    assert all(packed.kept[1] is None for packed in mlp.packed)
    for _ in range(3):
        torch.testing.assert_close(mlp(x), mlp.fc2(F.gelu(mlp.fc1(x))))


def test_where_the_plain_layer_is_called(always, monkeypatch):
    layer, x, kept = layer_and_input()
    residual = torch.randn(2, 5, 8)
    asks = x.clone().requires_grad_()
    assert FUSED not in calls(results, layer, asks, residual, kept)
    for got in results(layer, asks, residual, kept):
        assert torch.autograd.grad(got.sum(), asks)[0].any()
    with torch.no_grad():
        with torch.autocast('cpu', torch.bfloat16):
            assert FUSED not in calls(results, layer, x, residual, kept)
            assert [t.dtype for t in results(layer, x, residual, kept)] == [
                torch.bfloat16, torch.bfloat16, torch.float32,
            ]  # fmt: skip
        assert FUSED not in calls(
            results, copy.deepcopy(layer).double(), x.double(), x.new_zeros(1), kept
        )
        monkeypatch.setattr(torch.backends.mkl, 'is_available', lambda: False)
        assert FUSED not in calls(results, layer, x, residual, kept)
        monkeypatch.undo()
        monkeypatch.setattr(steps, 'LARGE_PRODUCT', 1)
        monkeypatch.setattr(steps, 'LARGE_WEIGHT', 1)
        kept.active = False
        assert FUSED not in calls(results, layer, x, residual, kept)
        kept.active = True
        # Who looks at the layer finds its own result, and that stays what it was.
        seen = []
        layer.register_forward_hook(lambda module, args, out: seen.append(out))
        for _ in range(2):
            results(layer, x, residual, kept)
        want = F.linear(x, layer.weight, layer.bias)
        assert len(seen) == 6 and all(torch.equal(out, want) for out in seen)


@torch.no_grad()
def test_small_products_and_many_rows_stay_with_pytorch():
    width = steps.LARGE_WEIGHT // 8
    few = -(-steps.LARGE_PRODUCT // steps.LARGE_WEIGHT)
    for rows, inputs, packs in (
        (few, width, True),
        (few - 1, width, False),
        (few + 1, width - 1, False),
        (steps.MANY_ROWS, width, True),
        (steps.MANY_ROWS + 1, width, False),
    ):
        layer, x, kept = layer_and_input(shape=(1, rows, inputs))
        for _ in range(2):
            linear_gelu(layer, x, kept)
        assert (FUSED in calls(linear_gelu, layer, x, kept)) == packs


@torch.no_grad()
def test_a_replaced_layer_is_called(always):
    """Tools that quantise or adapt layers put their own into the place."""
    mlp = MLP(6, 8).eval().switch_to_deploy()
    x = torch.randn(2, 5, 6)
    mlp.fc1 = nn.Sequential(mlp.fc1)
    want = mlp.fc2(F.gelu(mlp.fc1(x)))
    torch.testing.assert_close(mlp(x), want)
    torch.testing.assert_close(mlp(x, x), x + want)


def test_a_perceptron_deployed(always):
    torch.manual_seed(0)
    mlp = MLP(6, 8).eval()
    names, x = list(mlp.state_dict()), torch.randn(2, 5, 6)
    with torch.no_grad():
        want = mlp(x), mlp(x, x)
        assert FUSED not in calls(mlp, x)
        mlp.switch_to_deploy()
        for _ in range(2):
            torch.testing.assert_close((mlp(x), mlp(x, x)), want)
        assert FUSED in calls(mlp, x) and list(mlp.state_dict()) == names
        torch.save(mlp, file := io.BytesIO())
        file.seek(0)
        for other in (copy.deepcopy(mlp), torch.load(file, weights_only=False)):
            torch.testing.assert_close((other(x), other(x, x)), want)
    torch.testing.assert_close(torch.export.export(mlp, (x, x)).module()(x, x), want[1])
