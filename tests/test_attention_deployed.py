"""Shortcuts of Castling and e-attention in eager, deployed inference: the plain steps' results."""

import copy

import pytest
import torch
from test_attention import LAYOUTS, SAME
from test_deploy import as_trained, deviation
from test_vision_transformer import SMALL, images, small
from torch.utils._python_dispatch import TorchDispatchMode

import effvit_mm
from effvit_mm.attention import (
    EAttention,
    Layout,
    LinearAngularAttention,
    LinearAttention,
    SampledSoftmaxAttention,
    SoftmaxAttention,
    linear_angular,
)
from effvit_mm.attention.e_attention import rows
from effvit_mm.attention.softmax import NO_GRID
from effvit_mm.attention.token_sampling import TokenState, full_state
from effvit_mm.backbones import VisionTransformer

GRIDS = (Layout((20, 20), (20, 20), 1), Layout((9, 13), (9, 13), 2), Layout((14, 14), (14, 14)))


class Watched(TorchDispatchMode):
    """A mode that looks at operators: no shortcut is taken, the plain steps run."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def plainly(function, *args, **kwargs):
    with Watched():
        return function(*args, **kwargs)


def split(layout, batch, packed=True, heads=3, width=16, dtype=torch.float32):
    """Queries, keys and values: parts of one product, as a host has them, or tensors apart."""
    generator = torch.Generator().manual_seed(batch)
    count = layout.key_grid[0] * layout.key_grid[1] + layout.num_extra_tokens
    joined = torch.randn(batch, count, 3, heads, width, generator=generator, dtype=dtype)
    parts = joined.permute(2, 0, 3, 1, 4)
    return list(parts) if packed else [part.contiguous() for part in parts]


def assert_near(got, want, tolerance=1e-5):
    assert got.shape == want.shape and got.dtype == want.dtype
    assert (got - want).abs().max() <= tolerance * want.abs().max()


# --- Castling -----------------------------------------------------------------------------------


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('packed', [True, False])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('layout', GRIDS, ids=str)
@torch.no_grad()
def test_castling_takes_a_short_way(layout, batch, packed, dtype, monkeypatch):
    torch.manual_seed(0)
    module = LinearAngularAttention(3, 16, 16).to(dtype).eval()
    q, k, v = split(layout, batch, packed, dtype=dtype)
    q[:, :, 3] = 0  # no direction
    q[:, :, 4] *= 1e-12
    v[:, :, 5] = 0
    before = [part.clone() for part in (q, k, v)]
    want = module(q, k, v, layout)
    taken = []
    way = LinearAngularAttention._short_way
    spy = lambda self, *args: taken.append(1) or way(self, *args)  # noqa: E731
    monkeypatch.setattr(LinearAngularAttention, '_short_way', spy)
    module.switch_to_deploy()
    assert_near(module(q, k, v, layout), want)
    assert taken == [1]
    assert_near(plainly(module, q, k, v, layout), want)
    assert taken == [1]
    assert all(map(torch.equal, (q, k, v), before))


@pytest.mark.parametrize(
    'options',
    [
        {'preset': 'miniature'},
        {'constant': 'sum'},
        {'norm': 'rowsum'},
        {'norm': 'none'},
        {'convolution': 'none'},
        {'mean_over_tokens': True},
        {'kernel_size': 3},
    ],
    ids=str,
)
@pytest.mark.parametrize('layout', [*LAYOUTS, GRIDS[0]], ids=str)
@torch.no_grad()
def test_castling_deployed_with_every_option(layout, options):
    torch.manual_seed(0)
    module = LinearAngularAttention(3, 16, 16, **options).eval()
    q, k, v = split(layout, 2)
    if layout.query_grid != layout.key_grid:
        q = torch.randn(2, 3, layout.query_grid[0] * layout.query_grid[1], 16)
    want = module(q, k, v, layout)
    assert_near(module.switch_to_deploy()(q, k, v, layout), want)


@torch.no_grad()
def test_castling_kernels_follow_their_weights():
    """What was packed for oneDNN is packed anew where the weights change."""
    layout = GRIDS[0]
    module = LinearAngularAttention(3, 16, 16).eval().switch_to_deploy()
    parts = split(layout, 1)
    first = module(*parts, layout)
    module.value_conv.conv.weight.mul_(2)
    assert not torch.equal(module(*parts, layout), first)
    assert_near(module(*parts, layout), plainly(module, *parts, layout))


def test_views_of_one_product_are_not_copied():
    q, k, _ = split(GRIDS[0], 2)
    joined = linear_angular._side_by_side(q, k)
    assert joined.data_ptr() == q.data_ptr() and torch.equal(joined, torch.stack([q, k]))
    for other in (q.clone(), q.contiguous()):
        assert torch.equal(linear_angular._side_by_side(other, k), torch.stack([other, k]))
    assert torch.equal(linear_angular._side_by_side(k, q), torch.stack([k, q]))


# --- e-attention --------------------------------------------------------------------------------


def states(batch, total):
    """No padding; and images with a number of tokens each, of a row that was pruned before."""
    generator = torch.Generator().manual_seed(7)
    position = torch.stack([torch.randperm(2 * total, generator=generator) for _ in range(batch)])
    valid = torch.arange(total) < torch.randint(total // 2, total, (batch, 1), generator=generator)
    return None, TokenState(position[:, :total].sort(-1)[0], valid, 2 * total)


@pytest.mark.parametrize('kind', [EAttention, SampledSoftmaxAttention])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('sample', [True, False])
@pytest.mark.parametrize('layout', GRIDS[:2], ids=str)
@torch.no_grad()
def test_sampling_attention_takes_shortcuts(layout, sample, batch, kind):
    q, k, v = split(layout, batch)
    module = kind(3, 16, 16, sample=sample)
    for tokens in states(batch, layout.key_grid[0] * layout.key_grid[1]):
        got = module(q, k, v, layout, tokens=tokens)
        want = plainly(module, q, k, v, layout, tokens=tokens)
        if sample:
            assert torch.equal(got.index, want.index) and torch.equal(got.valid, want.valid)
            got, want = got.values, want.values
        assert_near(got, want)


@pytest.mark.parametrize('shape', [(3, 7, 4), (3, 2, 7, 4)], ids=str)
def test_rows_in_one_piece(shape):
    x, index = torch.randn(shape), torch.tensor([[0, 6, 2], [1, 1, 0], [5, 4, 3]])
    with torch.no_grad():
        assert torch.equal(rows(x, index), plainly(rows, x, index))
        turned = x.transpose(-1, -2).contiguous().transpose(-1, -2)
        assert torch.equal(rows(turned, index), plainly(rows, x, index))


# --- the class token alone ----------------------------------------------------------------------


@pytest.mark.parametrize(
    'module',
    [
        SoftmaxAttention(3, 16, 16),
        LinearAttention(3, 16, 16),
        LinearAngularAttention(3, 16, 16),
        LinearAngularAttention(3, 16, 16, preset='miniature', constant='sum', norm='rowsum'),
        EAttention(3, 16, 16),
        SampledSoftmaxAttention(3, 16, 16),
    ],
    ids=lambda module: type(module).__name__,
)
@torch.no_grad()
def test_extra_tokens_alone(module):
    """The same rows as when all tokens ask; the tokens that would be kept are told all the same."""
    layout = GRIDS[1]
    q, k, v = split(layout, 2)
    module.eval()
    whole = module(q, k, v, layout)
    alone = module(q[:, :, :2], k, v, layout._replace(query_grid=NO_GRID))
    if getattr(module, 'samples_tokens', False):
        assert torch.equal(alone.valid, whole.valid)
        assert alone.index.tolist() == [[0, 1]] * 2
        whole, alone = whole.values, alone.values
    assert_near(alone, whole[:, :, :2])


@pytest.mark.parametrize('distilled', [False, True])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize(
    'kind', ['EAttention', 'SampledSoftmaxAttention', 'LinearAngularAttention', 'SoftmaxAttention']
)
@torch.no_grad()
def test_classifiers_leave_out_what_nobody_sees(kind, batch, distilled):
    sampled = None if kind in ('LinearAngularAttention', 'SoftmaxAttention') else (1, 3, 4)
    model = as_trained(
        small(kind, sampled_blocks=sampled, out_type='cls_token', distilled=distilled)
    )
    deployed = copy.deepcopy(model).switch_to_deploy()
    for size in ((80, 112), (75, 97)):
        x = images(*size, batch=batch)
        assert deviation(deployed(x)[0], model(x)[0]) < 1e-5
        assert len(deployed.kept_tokens) == len(model.kept_tokens)
        assert all(map(torch.equal, deployed.kept_tokens, model.kept_tokens))
    counts = [effvit_mm.count_flops(network, (3, 80, 112)) for network in (deployed, model)]
    assert counts[0] < 0.97 * counts[1]


@torch.no_grad()
def test_own_mechanism_is_asked_for_all_tokens():
    """One that does not say it can answer for the extra tokens alone is never asked to."""
    model = small('SoftmaxAttention', sampled_blocks=None, out_type='cls_token').switch_to_deploy()
    last, seen = model.stages[-1][-1].attn.mechanism, []
    last.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[2]))
    model(images(80, 80))
    last.answers_extra_alone = False
    model(images(80, 80))
    assert seen == [1, 26]


# --- whole networks -----------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['EAttention', 'LinearAngularAttention'])
def test_gradients_in_training_stay(kind):
    """Training is the plain steps alone: what evaluation takes leaves no trace in it."""
    sampled = (1, 3) if kind == 'EAttention' else None
    model, x = small(kind, sampled_blocks=sampled).train(), images(80, 112)
    want, got = [], []
    for found in (want, got):
        model.zero_grad()
        torch.manual_seed(1)
        with Watched() if found is want else torch.enable_grad():
            model(x)[0].square().sum().backward()
        found += [p.grad.clone() for p in model.parameters()]
        with torch.no_grad():
            model.eval()(x)
        model.train()
    assert all(map(torch.equal, got, want))


@pytest.mark.parametrize('kind', ['EAttention', 'LinearAngularAttention'])
@torch.no_grad()
def test_half_precision_stays_close(kind):
    options = {'sampled_blocks': ()} if kind == 'EAttention' else {'sampled_blocks': None}
    model = as_trained(small(kind, **options))
    deployed, x = copy.deepcopy(model).switch_to_deploy(), images(80, 112, batch=3)
    want = model(x)[0]
    with torch.autocast('cpu', torch.bfloat16):
        errors = [(network(x)[0].float() - want).norm() for network in (deployed, model)]
    assert errors[0] < 1.5 * errors[1]


@torch.no_grad()
def test_compiled_for_any_size():
    """One graph serves every size and batch; it takes none of the shortcuts."""
    model = VisionTransformer(SMALL, attention={'type': 'LinearAngularAttention'})
    model = as_trained(model).switch_to_deploy()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(model, backend=backend, dynamic=True)
    for size, batch in (((96, 112), 2), ((128, 80), 3), ((144, 160), 2)):
        x = images(*size, batch=batch)
        assert deviation(compiled(x), model(x)) < 1e-5
    assert len(graphs) == 1
    torch._dynamo.reset()


def test_states_of_all_tokens_are_no_padding():
    state = full_state(2, 5, torch.device('cpu'))
    assert state.valid.all() and state.position.tolist() == [[0, 1, 2, 3, 4]] * 2
    q, k, v = split(SAME, 2)
    module = EAttention(3, 16, 16, sample=False)
    with torch.no_grad():
        state = full_state(2, 20, torch.device('cpu'))
        assert_near(module(q, k, v, SAME, tokens=state), module(q, k, v, SAME), 1e-6)
