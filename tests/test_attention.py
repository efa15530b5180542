"""Mechanisms against their definitions and against the published modules."""

import copy
from math import pi
from pathlib import Path

import golden
import pytest
import torch

from effvit_mm.attention import (
    NO_GRID,
    EAttention,
    Layout,
    LinearAngularAttention,
    LinearAttention,
    SampledSoftmaxAttention,
    SoftmaxAttention,
)
from effvit_mm.attention.linear import (
    FEATURE_MAPS,
    cosformer_waves,
    map_keys,
    map_queries,
    normalised_product,
)
from effvit_mm.attention.linear_angular import at_queries, linear_attention_product, unit_length
from effvit_mm.attention.token_sampling import TokenState, sample_tokens, significance
from effvit_mm.deploy import switch_modules

DATA = Path(__file__).parent / 'data'
SAME = Layout((4, 5), (4, 5), 1)
MECHANISMS = {
    'softmax': (SoftmaxAttention, {}),
    'angular': (LinearAngularAttention, {}),
    'angular miniature': (LinearAngularAttention, {'preset': 'miniature'}),
    'angular sum rowsum': (LinearAngularAttention, {'constant': 'sum', 'norm': 'rowsum'}),
    'angular plain': (LinearAngularAttention, {'convolution': 'none', 'norm': 'none'}),
    **{f'linear {name}': (LinearAttention, {'feature_map': name}) for name in FEATURE_MAPS},
}
# Queries on the keys' grid; on every second place of it (LeViT); finer than it (MViT).
LAYOUTS = (SAME, Layout((4, 3), (7, 6)), Layout((8, 8), (4, 4)), Layout((1, 1), (1, 1)))


def qkv(layout=SAME, heads=3, width=8, value_width=8, batch=2, scale=1.0):
    generator = torch.Generator().manual_seed(3)
    counts = [h * w + layout.num_extra_tokens for h, w in layout[:2]]
    shapes = ((counts[0], width), (counts[1], width), (counts[1], value_width))
    return [scale * torch.randn(batch, heads, *s, generator=generator) for s in shapes]


def build(name, heads=3, width=8, value_width=8):
    torch.manual_seed(0)
    cls, options = MECHANISMS[name]
    return cls(heads, width, value_width, **options)


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
@pytest.mark.parametrize('value_width', [8, 16])
@pytest.mark.parametrize('name', MECHANISMS)
def test_shapes_and_gradients(name, layout, value_width):
    module = build(name, value_width=value_width).train()
    q, k, v = (t.requires_grad_() for t in qkv(layout, value_width=value_width))
    y = module(q, k, v, layout)
    assert y.shape == (*q.shape[:3], value_width)
    y.square().sum().backward()
    assert all(t.grad.isfinite().all() for t in (q, k, v, *module.parameters()))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('scale', [0.0, 1e-4, 1.0, 30.0])
@pytest.mark.parametrize('name', MECHANISMS)
@torch.no_grad()
def test_half_precision_has_no_nan(name, scale, dtype):
    module = build(name).to(dtype)
    for layout in (SAME, Layout((1, 1), (1, 1))):
        q, k, v = (t.to(dtype) for t in qkv(layout, scale=scale))
        for mode in (True, False):
            y = module.train(mode)(q, k, v, layout)
            assert y.dtype == dtype and y.isfinite().all()


@pytest.mark.parametrize('tokens', [(3, 3), (40, 30), (2, 100), (100, 2)])
def test_product_orders_agree(tokens):
    q, k, v = torch.randn(2, 3, tokens[0], 8), torch.randn(2, 3, tokens[1], 8), None
    v = torch.randn(2, 3, tokens[1], 16)
    own = torch.randn(2, 3, tokens[0], 16)
    want = own / 2 + 0.3 * (q @ k.mT) @ v
    got = linear_attention_product(q, k, v, own, 0.3)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)


# --- linear-angular -----------------------------------------------------------------------------


@pytest.mark.parametrize('fixture', sorted(p.stem for p in DATA.glob('linear_angular_*')))
@torch.no_grad()
def test_linear_angular_equals_published(fixture):
    spec, reference = golden.load(DATA / f'{fixture}.npz')
    weights = {k: torch.from_numpy(v) for k, v in golden.golden_state(spec['keys']).items()}
    x = torch.from_numpy(golden.golden_input(**spec['inputs']['x']))
    b, n, c = x.shape
    heads = spec['inputs']['num_heads']
    module = LinearAngularAttention(
        heads,
        c // heads,
        c // heads,
        preset='miniature',
        masked_softmax='sparse' in fixture,
        threshold=spec['inputs']['threshold'],
    ).train()
    module.value_conv.conv.weight.copy_(weights['dconv.weight'])
    q, k, v = torch.nn.functional.linear(x, weights['qkv.weight'], weights['qkv.bias']).view(
        b, n, 3, heads, -1
    ).permute(2, 0, 3, 1, 4)  # fmt: skip
    y = module(q, k, v, Layout((n, 1), (n, 1))).transpose(1, 2).reshape(b, n, c)
    y = torch.nn.functional.linear(y, weights['proj.weight'], weights['proj.bias'])
    golden.check(reference, 'y', y, atol=0)


@pytest.mark.parametrize('layout', [SAME, Layout((20, 20), (20, 20))], ids=str)
@pytest.mark.parametrize('constant', ['identity', 'sum'])
@pytest.mark.parametrize('norm', ['l2', 'rowsum', 'none'])
@torch.no_grad()
def test_linear_angular_equals_its_quadratic_form(layout, constant, norm):
    """Tokens below and above the head width: both orders of the product."""
    q, k, v = (t.double() for t in qkv(layout))
    options = {'constant': constant, 'norm': norm, 'convolution': 'none'}
    module = LinearAngularAttention(3, 8, 8, **options).eval()
    cosine = torch.nn.functional.cosine_similarity(q[:, :, :, None], k[:, :, None], dim=-1)
    weights = cosine / pi + (0.5 if constant == 'sum' else 0.5 * torch.eye(q.shape[2]))
    want = weights @ v
    if norm == 'l2':
        want = want / want.norm(dim=-1, keepdim=True)
    elif norm == 'rowsum':
        want = want / weights.sum(-1, keepdim=True).clamp_min(1e-6)
    got = module(q, k, v, layout)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))


@torch.no_grad()
def test_masked_branch_trains_alone():
    q, k, v = qkv()
    module = build('angular')
    trained = module.train()(q, k, v, SAME)
    assert 0 < module.density < 1
    evaluated = module.eval()(q, k, v, SAME)
    assert not torch.allclose(trained, evaluated)
    module.train().threshold = 1.0  # nothing is above: train equals eval
    torch.testing.assert_close(module(q, k, v, SAME), evaluated, rtol=0, atol=0)
    assert module.density == 0
    switch_modules(module).threshold = 0.02
    torch.testing.assert_close(module(q, k, v, SAME), evaluated, rtol=1e-5, atol=1e-6)
    assert not module.takes_bias


@pytest.mark.parametrize(
    'options',
    [
        {},
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
@pytest.mark.parametrize('layout', [*LAYOUTS, Layout((9, 13), (9, 13), 2)], ids=str)
@torch.no_grad()
def test_linear_angular_deployed(layout, options):
    torch.manual_seed(0)
    module = LinearAngularAttention(3, 16, 16, **options).eval()
    for dtype in (torch.float32, torch.float64):
        q, k, v = (t.to(dtype) for t in qkv(layout, width=16, value_width=16))
        q[:, :, 0] = 0  # no direction
        k[:, :, -1] *= 1e-12
        before = [part.clone() for part in (q, k, v)]
        want = module.to(dtype)(q, k, v, layout)
        deployed = switch_modules(copy.deepcopy(module))
        got = deployed(q, k, v, layout)
        assert got.dtype == dtype
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))
        assert all(map(torch.equal, (q, k, v), before))


@torch.no_grad()
def test_bias_enters_the_masked_branch_alone():
    q, k, v = qkv()
    module, bias = build('angular'), 5 * torch.randn(1, 3, 21, 21)
    assert torch.equal(module.eval()(q, k, v, SAME, bias), module(q, k, v, SAME))
    assert not torch.equal(module.train()(q, k, v, SAME, bias), module(q, k, v, SAME))


@torch.no_grad()
def test_convolution_knows_the_grid():
    """2-D: a value reaches its neighbours on the map, across rows, and no extra token."""
    module = LinearAngularAttention(1, 4, 4, convolution='2d', kernel_size=3)
    v = torch.zeros(1, 1, 1 + 20, 4)
    v[0, 0, 1 + 2 * 5 + 4] = 1  # row 2, last column
    out = module.value_conv(v, SAME)[0, 0].abs().sum(-1)
    assert out[0] == 0
    reached = out[1:].view(4, 5).nonzero().tolist()
    assert reached == [[1, 3], [1, 4], [2, 3], [2, 4], [3, 3], [3, 4]]


def test_values_at_queries():
    """Every second key where queries are fewer; the nearest coarse key where they are more."""
    v = torch.arange(7 * 6.0).view(1, 1, -1, 1)
    got = at_queries(v, Layout((4, 3), (7, 6))).view(4, 3)
    assert torch.equal(got, v.view(7, 6)[::2, ::2])
    v = torch.cat([torch.tensor([-1.0]), torch.arange(4.0)]).view(1, 1, -1, 1)
    got = at_queries(v, Layout((4, 4), (2, 2), 1)).flatten()
    assert got[0] == -1
    assert got[1:].view(4, 4).tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2


@torch.no_grad()
def test_evaluation_builds_no_square_matrix():
    """4,096 tokens: the largest tensor allocated is far below 4,096 x 4,096."""
    grid = (64, 64)
    q, k, v = qkv(Layout(grid, grid), heads=1, width=16, value_width=16, batch=1)
    modules = [build(name, 1, 16, 16).eval() for name in ('angular', 'linear cosformer')]
    for module in (*modules, switch_modules(build('angular', 1, 16, 16).eval())):
        with torch.profiler.profile(profile_memory=True) as profile:
            module(q, k, v, Layout(grid, grid))
        largest = max(event.cpu_memory_usage for event in profile.events())
        assert 0 < largest < 4096 * 4096 * 4 / 20, module


@pytest.mark.parametrize(
    'options',
    [{'preset': 'x'}, {'norm': 'x'}, {'constant': 'x'}, {'convolution': '3d'}, {'kernel_size': 4}],
)
def test_linear_angular_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LinearAngularAttention(3, 8, 8, **options)


def test_unit_length_of_zero_is_zero():
    assert torch.equal(unit_length(torch.zeros(2, 3)), torch.zeros(2, 3))
    torch.testing.assert_close(unit_length(torch.randn(5, 3)).norm(dim=-1), torch.ones(5))


# --- linear attention ---------------------------------------------------------------------------


@pytest.mark.parametrize('tokens', [5, 60])
@pytest.mark.parametrize('name', FEATURE_MAPS)
@torch.no_grad()
def test_linear_attention_equals_its_quadratic_form(name, tokens):
    q, k, v = (torch.randn(2, 3, tokens, 8) for _ in range(3))
    places = torch.arange(1, tokens + 1)
    if name == 'cosformer':
        weights = q.relu() @ k.relu().mT
        weights = weights * (pi / 2 / tokens * (places[:, None] - places)).cos()
    elif name == 'softmax':
        weights = q.softmax(-1) @ k.softmax(-2).mT
    else:
        phi = torch.relu if name == 'relu' else lambda x: torch.nn.functional.elu(x) + 1
        weights = phi(q) @ phi(k).mT
    want = weights / weights.sum(-1, keepdim=True).clamp_min(1e-6) @ v
    got = LinearAttention(3, 8, 8, name)(q, k, v, Layout((tokens, 1), (tokens, 1)))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', FEATURE_MAPS)
@torch.no_grad()
def test_padded_keys_take_no_part(name):
    q, k, v = (torch.randn(1, 2, 9, 4) for _ in range(3))
    waves = cosformer_waves(torch.arange(1, 10)[None], 9)
    valid = torch.arange(9)[None] < 6
    q = map_queries(name, q, waves)
    want = normalised_product(q, map_keys(name, k[:, :, :6], waves[:, :6]), v[:, :, :6])
    k[:, :, 6:] = 1e3
    got = normalised_product(q, map_keys(name, k, waves * valid[..., None], valid), v)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_linear_attention_refuses():
    with pytest.raises(ValueError, match="feature_map='cos'"):
        LinearAttention(3, 8, 8, 'cos')


# --- token sampling -----------------------------------------------------------------------------


def sampled(*args):
    """Which of the tokens are kept: ``(B, N)``."""
    index, valid = sample_tokens(*args)
    kept = torch.zeros(args[0].shape, dtype=torch.int64).scatter_add_(1, index, valid.long())
    assert (kept <= 1).all()
    return kept.bool()


@pytest.mark.parametrize('fixture', sorted(p.stem for p in DATA.glob('ats_*')))
def test_sampling_equals_published(fixture):
    spec, reference = golden.load(DATA / f'{fixture}.npz')
    inputs = spec['inputs']
    rule = inputs['cls_attention'].pop('rule')
    logits = float(rule.split('axis of ')[1].split()[0]) * torch.from_numpy(
        golden.golden_input(**inputs['cls_attention'])
    )
    v = torch.from_numpy(golden.golden_input(**inputs['v']))
    score = significance(logits.softmax(-1), v)[:, 1:]
    score = score / score.sum(-1, keepdim=True)
    golden.check(reference, 'score', score, atol=0)
    kept = sampled(score, inputs['reference_tokens'] - 1)
    assert (kept.numpy() == reference['out/kept']).all()


def by_definition(score, num_samples):
    """Sampling of one image, point by point."""
    order = sorted(range(len(score)), key=lambda j: score[j])
    total = torch.tensor([float(score[j]) for j in order]).cumsum(0)
    cdf = (total - total.min()) / (total.max() - total.min())
    points = torch.linspace(float(cdf[cdf > 0].min()), 1, num_samples)
    return {order[int((point - cdf).abs().argmin())] for point in points}


@pytest.mark.parametrize('num_samples', [1, 3, 16, 50])
@pytest.mark.parametrize('tokens', [2, 5, 30])
def test_sampling_equals_its_definition(tokens, num_samples):
    score = torch.rand(20, tokens, generator=torch.Generator().manual_seed(1)) ** 4
    score = score / score.sum(-1, keepdim=True)
    kept = sampled(score, num_samples)
    for row, mask in zip(score, kept, strict=True):
        assert set(mask.nonzero().flatten().tolist()) == by_definition(row, num_samples)


def test_uniform_scores_keep_all_but_one():
    assert sampled(torch.full((1, 196), 1 / 196), 196).sum() == 195


@pytest.mark.parametrize('score', [torch.zeros(1, 5), torch.ones(1, 1)], ids=str)
def test_sampling_without_differences_keeps_all(score):
    assert sampled(score, 3).all()


def test_padding_is_never_kept_and_changes_nothing():
    generator = torch.Generator().manual_seed(2)
    score = torch.rand(8, 40, generator=generator)
    lengths = torch.randint(1, 41, (8,), generator=generator)
    valid = torch.arange(40) < lengths[:, None]
    kept = sampled(score * valid, 12, valid)
    assert not (kept & ~valid).any()
    for row, mask, n in zip(score, kept, lengths.tolist(), strict=True):
        assert torch.equal(mask[:n], sampled(row[None, :n], 12)[0])


def test_a_budget_leaves_out_the_least_significant():
    score = torch.rand(6, 40, generator=torch.Generator().manual_seed(3)) ** 3
    whole = sampled(score, 30)
    counts = whole.sum(1)
    budget = int(counts.median())
    assert counts.min() < budget < counts.max()
    index, valid = sample_tokens(score, 30, None, budget)
    assert valid.shape[1] == budget and torch.equal(valid.sum(1), counts.clamp_max(budget))
    for row, kept, places, real in zip(score, whole, index, valid, strict=True):
        best = row.masked_fill(~kept, -1).argsort(descending=True)
        assert places[real].tolist() == best[: real.sum()].tolist()


def test_sampling_refuses():
    with pytest.raises(ValueError, match='num_samples=0'):
        sample_tokens(torch.ones(1, 3), 0)


def test_states_of_all_tokens_are_no_padding():
    state = TokenState(torch.arange(21).expand(2, -1), torch.ones(2, 20) > 0, extra=1, total=20)
    module = EAttention(3, 8, 8, sample=False)
    q, k, v = qkv()
    torch.testing.assert_close(module(q, k, v, SAME, tokens=state), module(q, k, v, SAME))


# --- the class token alone ----------------------------------------------------------------------


@pytest.mark.parametrize(
    'module',
    [
        SoftmaxAttention(3, 8, 8),
        LinearAttention(3, 8, 8),
        LinearAngularAttention(3, 8, 8),
        LinearAngularAttention(3, 8, 8, preset='miniature', constant='sum', norm='rowsum'),
        EAttention(3, 8, 8),
        SampledSoftmaxAttention(3, 8, 8),
    ],
    ids=lambda module: type(module).__name__,
)
@torch.no_grad()
def test_extra_tokens_alone(module):
    """The same rows as when all tokens ask; the tokens that would be kept are told all the same."""
    layout = Layout((9, 13), (9, 13), 2)
    q, k, v = qkv(layout)
    module.eval()
    whole = module(q, k, v, layout)
    alone = module(q[:, :, :2], k, v, layout._replace(query_grid=NO_GRID))
    if getattr(module, 'samples_tokens', False):
        assert torch.equal(alone.tokens.place, whole.tokens.place)
        assert alone.index.tolist() == [[0, 1]] * 2
        whole, alone = whole.values, alone.values
    torch.testing.assert_close(alone, whole[:, :, :2])
