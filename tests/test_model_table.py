"""Attention is counted by itself, to closed forms; the tool that writes the tables of models."""

import re
from collections import Counter
from itertools import pairwise

import pytest
import torch

import effvit_mm
from benchmarks import model_table
from benchmarks.measure.attention import attention_flops, latency_alternately
from benchmarks.measure.model_costs import Variant, compare, deit_variants, measure
from benchmarks.measure.published import PUBLISHED
from benchmarks.measure.report import describe_machine
from effvit_mm.flops import count_flops, flops_by_module
from effvit_mm.registry import MODELS


def cost_of(name, height=224, width=224, **kwargs):
    with torch.device('meta'):
        model = effvit_mm.create_model(name, **kwargs)
        return attention_flops(model, torch.empty(1, 3, height, width))


def softmax(queries, keys, width):
    """Multiply-adds of ``softmax(Q K^T) V`` at this width of all heads."""
    return 2 * queries * keys * width


@pytest.mark.parametrize(('arch', 'dim'), [('tiny', 192), ('small', 384), ('base', 768)])
def test_deit(arch, dim):
    cost = cost_of(f'deit_{arch}')
    assert cost.mechanism == 12 * softmax(197, 197, dim)
    assert cost.layers - cost.mechanism == 12 * 4 * 197 * dim**2
    assert cost.model == cost.layers + 12 * 8 * 197 * dim**2 + 196 * 768 * dim + 1000 * dim


def test_castling_deit():
    """Keys and values first, for each head; and 9 x 9 taps for each channel of the map."""
    cost = cost_of('castling_deit_tiny')
    assert cost.mechanism == 12 * (2 * 197 * 64 * 192 + 196 * 81 * 192)
    assert cost.layers - cost.mechanism == 12 * 4 * 197 * 192**2


def test_crossvit():
    """400 and 196 patches; one query, whose cross-attention runs at the other branch's width."""
    s, large = 128, 256
    blocks = 3 * (softmax(401, 401, s) + 3 * softmax(197, 197, large))
    exchange = 3 * (softmax(1, 197, large) + softmax(1, 401, s))
    assert cost_of('crossvit_9', 240, 240).mechanism == blocks + exchange


def test_pslt_counts_the_padding_of_windows():
    def ladder(blocks, windows, dim):
        return blocks * windows * softmax(49, 49, dim)  # three branches, a third of the width each

    assert cost_of('pslt_tiny').mechanism == ladder(10, 4, 192) + ladder(3, 1, 384)
    assert cost_of('pslt_tiny', 256, 128).mechanism == ladder(10, 3 * 2, 192) + ladder(3, 2, 384)


def test_levit():
    """Values twice, between stages four times as wide as keys; N queries, M keys."""
    stages = [(2, 4, 14), (3, 6, 7), (4, 8, 4)]  # depth, heads, side of the map
    inside = sum(depth * heads * side**4 * (16 + 32) for depth, heads, side in stages)
    between = 8 * 49 * 196 * (16 + 64) + 16 * 16 * 49 * (16 + 64)
    cost = cost_of('levit_128s')
    assert cost.mechanism == inside + between
    # The projections to queries take every second token of a row and column.
    projections = sum(
        depth * side**2 * dim * heads * (16 + 16 + 32 + 32)
        for (depth, heads, side), dim in zip(stages, (128, 256, 384), strict=True)
    )
    projections += 196 * 128 * 8 * 80 + 49 * 128 * 8 * 16 + 49 * 8 * 64 * 256
    projections += 49 * 256 * 16 * 80 + 16 * 256 * 16 * 16 + 16 * 16 * 64 * 384
    assert cost.layers - cost.mechanism == projections


def test_mvitv2_has_pooling_and_relative_positions():
    total = 0
    # Blocks, width, sides of the maps: in, of the queries, of the keys.
    for blocks, dim, side, queries, keys in [
        (1, 96, 56, 56, 14),
        (1, 192, 56, 28, 28),
        (1, 192, 28, 28, 14),
        (1, 384, 28, 14, 28),
        (4, 384, 14, 14, 14),
        (1, 768, 14, 7, 14),
        (1, 768, 7, 7, 7),
    ]:
        assert side >= max(queries, keys)
        pooling = 9 * dim * (queries**2 + 2 * keys**2)
        positions = dim * queries**2 * 2 * keys
        total += blocks * (softmax(queries**2, keys**2, dim) + pooling + positions)
    assert cost_of('mvitv2_tiny').mechanism == total


@pytest.mark.parametrize(
    'name',
    [
        'castling_levit_128s',
        'castling_mvitv2_tiny',
        'crossvit_9_dagger',
        'deit_tiny_distilled',
        'levit_128s',
        'mvitv2_tiny',
        'pslt_tiny',
    ],
)
def test_every_family_has_attention(name):
    cost = cost_of(name)
    assert 0 < cost.mechanism < cost.layers < cost.model
    with torch.device('meta'):
        assert cost.model == count_flops(effvit_mm.create_model(name), (3, 224, 224))


class ProjectingAttention(torch.nn.Module):
    """A user's mechanism that has a linear layer of its own."""

    def __init__(self, num_heads, key_dim, value_dim):
        super().__init__()
        self.mix = torch.nn.Linear(value_dim, value_dim)

    def forward(self, q, k, v, layout, bias=None):
        return self.mix(v)


def test_a_users_mechanism_keeps_its_linear_layers():
    MODELS.register_module(name='ProjectingAttention', module=ProjectingAttention)
    try:
        cost = cost_of('deit_tiny', attention={'type': 'ProjectingAttention'})
    finally:
        MODELS.module_dict.pop('ProjectingAttention')
    assert cost.mechanism == 12 * 197 * 3 * 64**2


def test_modules_add_up():
    with torch.device('meta'):
        model = effvit_mm.create_model('deit_tiny')
        counts = flops_by_module(model, torch.empty(1, 3, 64, 64))
    block = 'backbone.stages.2.1'
    parts = (f'{block}.{name}' for name in ('attn', 'mlp.fc1', 'mlp.fc2'))
    assert counts[block] == sum((counts[part] for part in parts), Counter())
    assert counts[''] == counts['backbone'] + counts['head']
    assert counts['head'] == {'addmm': 1000 * 192}


@pytest.mark.parametrize(('arch', 'dim'), [('tiny', 192), ('small', 384)])
@pytest.mark.parametrize('size', [224, 384])
def test_linear_attention_saves_what_the_formula_says(arch, dim, size):
    """Of the blocks (N - W) / (6 d + N), W the width of a head's features; less the normaliser."""
    tokens = (size // 16) ** 2 + 1
    variants = [*deit_variants(arch, size, 'deit'), *deit_variants(arch, size, 'lightweight_vit')]
    base, relu, cosformer = compare(variants[:3], size)
    outside = (tokens - 1) * 768 * dim + 1000 * dim  # patches and head
    for found, width in ((relu, 64), (cosformer, 128)):
        saved = 1 - (found.cost.model - outside) / (base.cost.model - outside)
        # The normaliser, a product of N x W and W x 1, costs half a token's worth for each 64.
        assert saved == pytest.approx((tokens - width - width / 128) / (6 * dim + tokens))
        assert saved == pytest.approx((tokens - width) / (6 * dim + tokens), abs=2e-3)
        assert found.saved(base).mechanism == pytest.approx(1 - (width + width / 128) / tokens)
        assert found.kept is None


def test_sampling_saves_more_the_fewer_points():
    base = measure(Variant('softmax', 'deit_tiny'), 224)
    linear, everything, half, quarter = (
        measure(variant, 224) for variant in deit_variants('tiny', 224, 'lightweight_vit')[1:]
    )
    assert 196 > everything.kept > half.kept > quarter.kept > 0
    assert half.kept <= 98 and quarter.kept <= 49
    shares = [found.saved(base) for found in (linear, everything, half, quarter)]
    for less, more in pairwise(shares):
        assert less.model < more.model and less.mechanism < more.mechanism
    # The same figures whenever it is asked.
    assert measure(Variant('', 'lightweight_vit_tiny'), 224) == everything


def test_latency_is_of_whole_and_mechanism():
    models = [
        effvit_mm.create_model(f'{kind}_tiny', features_only=True) for kind in ('deit', 'pslt')
    ]
    models[0].train()
    deit, pslt = latency_alternately(models, torch.zeros(1, 3, 64, 64), repeats=2, warm_up=0)
    assert 0 < deit.mechanism < deit.model
    assert 0 < pslt.mechanism < pslt.model
    assert models[0].training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in models[0].modules())
    with pytest.raises(ValueError, match='repeats=0'):
        latency_alternately(models, torch.zeros(1, 3, 64, 64), repeats=0)
    assert re.search(r'\d+ threads?, PyTorch \d', describe_machine())


def tables(text):
    """The tables of a Markdown text: lists of dicts by column, checked to be rectangular."""
    found = []
    for block in re.findall(r'(?:^\|.*\|\n)+', text, flags=re.MULTILINE):
        header, rule, *rows = (
            [cell.strip() for cell in line.strip('|').split('|')] for line in block.splitlines()
        )
        assert all(re.fullmatch(r':?-{3,}:?', cell) for cell in rule)
        assert rows and all(len(row) == len(header) == len(rule) for row in rows)
        found.append([list(zip(header, row, strict=True)) for row in rows])
    return found


def test_tool_prints_markdown(capsys):
    assert model_table.main(['crossvit_*9*', '--no-latency']) == 0
    out = capsys.readouterr().out
    ((plain, dagger),) = tables(out)
    plain, dagger = dict(plain), dict(dagger)
    assert plain['model'] == '`crossvit_9`' and plain['parameters'] == '8,553,296'
    assert plain['multiply-adds, published size'] == '1.841 G at 240'
    assert plain['multiply-adds, 224'] == '1.572 G'
    assert plain['attention, 224'] == '14.9 %'
    assert (plain['top-1'], dagger['top-1']) == ('73.9', '77.1')
    assert 'arXiv 2103.14899' in plain['source']
    assert 'Reductions' not in out


def test_tool_compares_and_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(model_table, 'SIZES', (64, 96))
    monkeypatch.setattr(model_table, 'COMPARED_SIZES', (64,))
    target = tmp_path / 'docs' / 'table.md'
    argv = ['*[gt]*[it]_tiny', '--repeats', '1', '--out', str(target)]
    assert model_table.main(argv) == 0
    assert [p.name for p in target.parent.iterdir()] == ['table.md']
    text = target.read_text()
    models, reductions = tables(text)
    names = [dict(row)['model'] for row in models]
    assert names == ['`castling_deit_tiny`', '`lightweight_vit_tiny`']
    labels = [dict(row)['attention'] for row in reductions]
    assert labels[0] == 'softmax' and labels[-1] == 'linear-angular' and len(labels) == 7
    cells = [value for _, value in reductions[-1]]
    assert len(cells) == 11 and cells[-2].endswith(' ms') and cells[-1].endswith(' %')
    assert 'medians of 1 passes after one to warm up' in text and 'thread' in text


def test_tool_knows_the_models_it_quotes():
    quoted = [name for table in PUBLISHED.values() for name in table]
    assert len(quoted) == len(set(quoted)) and set(quoted) <= set(effvit_mm.list_models())


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['resnet*'], "no model is called like 'resnet*'"),
        (['pslt*', '--repeats', '0'], '--repeats 0'),
        (['pslt*', '--no-latency', '--out', '/proc/nowhere/a.md'], '/proc/nowhere'),
    ],
)
def test_tool_refuses(capsys, argv, message):
    assert model_table.main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: ') and message in err and err.count('\n') == 1
