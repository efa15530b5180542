"""CrossViT equals timm's, which equals the authors', and takes images of any size."""

import copy
import os

import pytest
import timm
import torch
from networks import CROSSVIT as SMALL
from networks import SIZES, deviation, images, tensors
from timm.layers import resample_abs_pos_embed

import effvit_mm
from effvit_mm.backbones.base import drop_path_rates
from effvit_mm.backbones.crossvit import CrossViT, Fusion
from effvit_mm.errors import CheckpointError
from effvit_mm.flops import count_flops, count_parameters
from effvit_mm.weights import load_checkpoint
from effvit_mm.weights.names.crossvit import RULES
from effvit_mm.weights.names.rules import rename

# Parameters, and multiply-adds in G, with heads of 1,000 classes.
COST = {
    'tiny': (7_014_800, 1.56),
    'small': (26_856_272, 5.62),
    'base': (105_025_232, 21.19),
    '9': (8_553_296, 1.84),
    '15': (27_528_464, 5.79),
    '18': (43_271_408, 9.03),
    '9_dagger': (8_776_592, 1.98),
    '15_dagger': (28_209_008, 6.11),
    '18_dagger': (44_266_976, 9.47),
    '15_dagger_408': (28_500_080, 21.40),
    '18_dagger_408': (44_606_560, 32.41),
}
# All eleven take minutes: EFFVIT_ALL_VARIANTS=1.
COMPARED = list(COST)
if not os.environ.get('EFFVIT_ALL_VARIANTS'):
    COMPARED = ['tiny', '9', '9_dagger', '15_dagger_408']

NETWORKS = [
    {'mode': 'parity', 'out_type': 'featmap'},
    {'mode': 'dense', 'out_type': 'featmap'},
    {'mode': 'parity', 'out_type': 'cls_token'},
]


def classifier(arch, num_classes=1000, **kwargs):
    return effvit_mm.create_model(f'crossvit_{arch}', num_classes, **kwargs)


def image_size(arch):
    return CrossViT.settings(arch)['img_size']


@torch.no_grad()
def randomise(model):
    """Weights as after training: fresh zeros and ones would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if 'cls_token' in name or 'pos_embed' in name:
            p.copy_(0.5 * noise)
        elif p.ndim > 1:
            p.copy_(noise / p[0].numel() ** 0.5)
        else:
            p.copy_(0.1 * noise + (name.endswith('weight')))
    return model


def timm_model(arch, **kwargs):
    name = arch if arch.endswith('408') else f'{arch}_240'
    model = randomise(timm.create_model(f'crossvit_{name}', **kwargs)).eval()
    model.arch = arch
    return model


def converted(reference):
    name = f'crossvit_{reference.arch}'
    state = effvit_mm.convert_state_dict(reference.state_dict(), name)
    assert len(state) == len(reference.state_dict())
    return state


def build(**kwargs):
    torch.manual_seed(0)
    return randomise(CrossViT(SMALL, **kwargs))


def assert_equal_to(want, got):
    assert want.shape == got.shape
    assert (want - got).abs().max() <= 1e-4 * want.abs().max()


@pytest.mark.parametrize('arch', COMPARED)
@torch.no_grad()
def test_logits_equal_timm(arch):
    reference = timm_model(arch)
    model = classifier(arch).eval()
    model.load_state_dict(converted(reference))
    x = images(image_size(arch), image_size(arch))
    assert_equal_to(reference(x), model(x))


@pytest.fixture(scope='module')
def tiny():
    return timm_model('tiny', num_classes=10)


def test_published_names_differ_from_timms_in_embeddings_alone(tiny):
    for name in tiny.state_dict():
        published = name.replace('embed_0', 'embed.0').replace('token_1', 'token.1')
        assert rename(published, RULES) == rename(name, RULES)
    with pytest.raises(KeyError):
        rename('blocks.0.fusion.0.norm2.weight', RULES)


@torch.no_grad()
def test_maps_equal_timm(tiny):
    """The last exchange, which is left out, has no part in them."""
    model = CrossViT('tiny').eval()
    state = {k.removeprefix('backbone.'): v for k, v in converted(tiny).items()}
    left = model.load_state_dict(state, strict=False)
    assert not left.missing_keys
    assert all(k.startswith(('head.', 'stages.2.fusions.')) for k in left.unexpected_keys)
    x = images(240, 240)
    maps = tiny.forward_intermediates(x, indices=[2, 5], norm=True, intermediates_only=True)
    for want, got in zip(maps, model(x), strict=True):
        assert_equal_to(want, got)


@pytest.mark.parametrize(('mode', 'side'), [('dense', 224), ('parity', 240)])
@torch.no_grad()
def test_both_modes_show_the_network_its_own_sizes(tiny, mode, side):
    """The dense mode at 224 sees what the published network sees of a 224 image: S at 240."""
    model = classifier('tiny', 10, mode=mode).eval()
    model.load_state_dict(converted(tiny))
    x = images(side, side)
    # timm squares any image itself, in float32 with the same interpolation.
    assert_equal_to(tiny(x), model(x))


@pytest.mark.parametrize('size', [(240, 120), (480, 240), (480, 480)], ids=str)
@torch.no_grad()
def test_other_sizes_equal_timm_built_for_them(tiny, size):
    other = timm_model('tiny', num_classes=10, img_size=size)
    state = tiny.state_dict()
    for name, grid in (('pos_embed_0', 20), ('pos_embed_1', 14)):
        new = [side * grid // 240 for side in size]
        state[name] = resample_abs_pos_embed(state[name], new, [grid, grid])
    other.load_state_dict(state)
    model = classifier('tiny', 10).eval()
    model.load_state_dict(converted(tiny))
    x = images(*size)
    assert_equal_to(other(x), model(x))


@pytest.mark.parametrize('arch', COST)
def test_cost_is_the_published_one(arch):
    with torch.device('meta'):
        model = classifier(arch)
    parameters, giga = COST[arch]
    assert count_parameters(model) == parameters
    assert round(count_flops(model, (3, image_size(arch), image_size(arch))) / 1e9, 2) == giga


def test_cost_counts_the_fused_kernel():
    with torch.device('meta'):
        abstract = classifier('tiny')
    shape = (3, 240, 240)
    assert count_flops(classifier('tiny'), shape) == count_flops(abstract, shape)


@pytest.mark.parametrize('mode', ['parity', 'dense'])
@pytest.mark.parametrize('size', SIZES, ids=str)
@torch.no_grad()
def test_maps_of_any_size(mode, size):
    model = build(mode=mode).eval()
    maps = model(images(*size, batch=2))
    assert isinstance(maps, tuple) and len(maps) == 2
    for i, out in enumerate(maps):
        stride = model.out_strides[i]
        assert out.shape == (2, model.out_channels[i], *model.map_size(size, i))
        assert out.shape[-2:] == (round(size[0] / stride), round(size[1] / stride))
        assert out.isfinite().all()


def test_strides_are_those_of_the_maps():
    assert CrossViT(SMALL).out_strides == (12, 240 / 14)
    assert CrossViT(SMALL, mode='dense').out_strides == (11.2, 16)
    assert CrossViT(SMALL, mode='dense', out_indices=-1).out_strides == (16,)
    assert CrossViT(SMALL, mode='dense').map_size((800, 1344), 1) == (50, 84)


@torch.no_grad()
def test_small_patches_for_small_images():
    arch = {**SMALL, 'patch_embed': 'linear', 'img_size': 28}
    model = CrossViT(arch, patch_sizes=(3, 4)).eval()
    assert [tuple(m.shape[2:]) for m in model(images(28, 28))] == [(9, 9), (7, 7)]
    assert model.out_strides == (3, 4 * 240 / 224)
    assert [model.map_size((40, 61), b) for b in (0, 1)] == [
        tuple(m.shape[2:]) for m in model(images(40, 61))
    ]
    with pytest.raises(ValueError, match='8 pixels or more'):
        model(images(7, 28))


@torch.no_grad()
def test_class_tokens_come_as_one_list():
    (tokens,) = build(out_type='cls_token').eval()(images(97, 225, batch=2))
    assert isinstance(tokens, list) and [t.shape for t in tokens] == [(2, 24), (2, 48)]


@pytest.mark.parametrize('out_type', ['featmap', 'cls_token'])
@pytest.mark.parametrize('index', [0, 1])
@torch.no_grad()
def test_one_branch_is_the_same_without_what_it_does_not_need(out_type, index):
    whole = build(out_type=out_type).eval()
    part = build(out_type=out_type, out_indices=index).eval()
    assert count_parameters(part) < count_parameters(whole)
    assert not part.load_state_dict(whole.state_dict(), strict=False).missing_keys
    x = images(64, 96)
    torch.testing.assert_close(tensors(part(x))[0], tensors(whole(x))[index])


@pytest.mark.parametrize('out_indices', [0, 1, (0, 1)], ids=str)
@pytest.mark.parametrize('network', NETWORKS, ids=str)
def test_every_parameter_has_a_gradient(network, out_indices):
    model = build(**network, out_indices=out_indices, drop_path_rate=0.0).train()
    sum(t.square().mean() for t in tensors(model(images(64, 96, batch=2)))).backward()
    for name, p in model.named_parameters():
        # A key's bias shifts all logits of a softmax alike: its gradient is zero but for rounding.
        assert p.grad is not None and (p.grad.any() or name.endswith('attn.k.bias')), name


def test_checkpointing_changes_nothing():
    def gradients(with_cp):
        model = build(out_type='cls_token', with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(2)
        sum(t.square().mean() for t in tensors(model(images(64, 64, batch=4)))).backward()
        return [p.grad for p in model.parameters()]

    for want, got in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize('frozen', range(-1, 4))
def test_freezing_freezes(frozen):
    model = build(out_type='cls_token', frozen_stages=frozen).train()
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    parts = ['stem.', *(f'stages.{i}.' for i in range(3)), 'norms.']
    for part in parts[: frozen + 1]:
        assert not any(name.startswith(part) for name in free)
    for part in parts[frozen + 1 :]:
        assert all(n in free for n, _ in model.named_parameters() if n.startswith(part))


def test_drop_path_rises_over_the_large_branch():
    """S takes the first rate of its stage, the exchange the last, as in the published code."""
    model = CrossViT({**SMALL, 'depth': 3}, out_type='cls_token', drop_path_rate=0.4)
    rates = drop_path_rates(0.4, 9)
    for i, stage in enumerate(model.stages):
        own = rates[3 * i : 3 * i + 3]
        small, large = ([block.drop_path.p for block in branch] for branch in stage.blocks)
        assert small == own[:1] and large == own
        assert [fusion.drop_path.p for fusion in stage.fusions.values()] == [own[-1]] * 2


def test_drop_path_drops_whole_residuals_of_the_exchange():
    fusion = randomise(Fusion(12, 12, 3, 0.5)).train()
    x = torch.randn(64, 4, 12)
    out, plain = fusion(x[:, :1], x), fusion.revert(fusion.project(x[:, :1]))
    dropped = (out == plain).flatten(1).all(1).float().mean()
    assert 0.3 < dropped < 0.7


def test_layer_depths():
    model = build(out_type='cls_token')
    depth = {n: model.get_layer_depth(f'b.{n}', prefix='b.') for n, _ in model.named_parameters()}
    assert {count for _, count in depth.values()} == {1 + 3 * 3 + 1}  # 2 blocks and the exchange
    depth = {name: d for name, (d, _) in depth.items()}
    assert set(depth.values()) == set(range(11))
    assert depth['stem.1.pos_embed'] == depth['stem.0.proj.0.weight'] == 0
    assert depth['stages.1.blocks.0.0.norm1.weight'] == 4
    assert depth['stages.1.blocks.1.1.norm1.weight'] == 5
    assert depth['stages.1.fusions.0.attn.q.weight'] == 6
    assert depth['norms.0.weight'] == 10


def test_no_weight_decay_names_real_parameters():
    model = build()
    assert model.no_weight_decay() == {
        name for name, _ in model.named_parameters() if 'pos_embed' in name or 'cls_token' in name
    }


def test_positions_of_another_grid_are_resized_on_load():
    source = randomise(CrossViT(SMALL))
    model = CrossViT({**SMALL, 'img_size': 408})
    before = copy.deepcopy(source.state_dict())
    report = load_checkpoint(model, source.state_dict(), require='exact')
    assert '2 resized: stem.0.pos_embed, stem.1.pos_embed' in str(report)
    for name, side in (('stem.0.pos_embed', 34), ('stem.1.pos_embed', 24)):
        old, new = before[name], model.state_dict()[name]
        assert new.shape[1] == 1 + side**2
        assert torch.equal(new[:, 0], old[:, 0])
        assert (new[:, 1:].mean() - old[:, 1:].mean()).abs() < 0.02
    assert all(torch.equal(v, before[k]) for k, v in source.state_dict().items())
    # The larger network then sees what the smaller one would interpolate to by itself.
    x = images(408, 408)
    with torch.no_grad():
        for want, got in zip(source.eval()(x), model.eval()(x), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_positions_that_fit_no_square_are_an_error():
    state = CrossViT(SMALL).state_dict()
    state['stem.0.pos_embed'] = torch.zeros(1, 1 + 7, 24)
    with pytest.raises(CheckpointError, match=r'stem\.0\.pos_embed \(1, 8, 24\) instead of'):
        load_checkpoint(CrossViT(SMALL), state, require='all')


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        ({'mode': 'native'}, "mode='native'.*'parity', 'dense'"),
        ({'out_type': 'raw'}, "out_type='raw'.*'featmap', 'cls_token'"),
        ({'out_indices': 2}, 'out_indices=2'),
        ({'frozen_stages': 4}, 'frozen_stages=4.*to 3'),
        ({'arch': {**SMALL, 'patch_embed': 'x'}}, "patch_embed.*'x'"),
        ({'arch': {**SMALL, 'num_heads': 5}}, 'num_heads=5'),
        ({'patch_sizes': (3, 4)}, "patch_sizes=\\(3, 4\\).*'conv'.*12, 16"),
        ({'patch_sizes': (12,)}, 'patch_sizes=.*two positive ints'),
        ({'patch_sizes': (0, 4)}, 'patch_sizes=.*two positive ints'),
    ],
    ids=str,
)
def test_arguments_are_checked(argument, message):
    with pytest.raises(ValueError, match=message):
        CrossViT(**{'arch': SMALL, **argument})


@pytest.mark.parametrize('network', NETWORKS, ids=str)
@torch.no_grad()
def test_autocast_stays_close(network):
    model = build(**network).eval()
    exact = tensors(model(images(64, 96)))
    with torch.autocast('cpu', torch.bfloat16):
        rough = tensors(model(images(64, 96)))
    for a, b in zip(exact, rough, strict=True):
        assert b.isfinite().all() and (a - b.float()).norm() < 0.05 * a.norm()


@pytest.mark.parametrize('network', NETWORKS, ids=str)
def test_exports(network):
    model = build(**network).eval()
    x = images(97, 64)
    exported = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        for a, b in zip(tensors(exported(x)), tensors(model(x)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@torch.no_grad()
def test_traces():
    """As the frameworks' own counters of multiply-adds do."""
    model, x = build().eval(), images(97, 64)
    for a, b in zip(torch.jit.trace(model, x)(x), model(x), strict=True):
        torch.testing.assert_close(a, b)


# --- mechanisms that drop tokens ----------------------------------------------------------------


@pytest.mark.parametrize('deployed', [False, True])
@pytest.mark.parametrize('network', NETWORKS, ids=str)
@pytest.mark.parametrize('kind', ['EAttention', 'SampledSoftmaxAttention'])
@torch.no_grad()
def test_sampled_images_of_a_batch_are_independent(kind, network, deployed):
    """Images keep a number of tokens each; what fills up the shorter rows is seen by nobody."""
    attention = {'type': kind, 'num_samples': 20}
    model = build(**network, attention=attention).eval()
    model = model.switch_to_deploy() if deployed else model
    padding = []
    for block in (model.stages[1].blocks[0][-1], model.stages[1].blocks[1][-1]):
        block.register_forward_hook(lambda module, args, out: padding.append(~out[2].valid))
    x = images(80, 112, batch=5)
    x[3] *= 4  # another number of tokens is kept
    whole = tensors(model(x))
    assert len(padding) == 2 and all(rows.any() for rows in padding)
    for i in range(5):
        alone = tensors(model(x[i : i + 1]))
        for a, b in zip(whole, alone, strict=True):
            torch.testing.assert_close(a[i : i + 1], b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_exchange_does_not_see_padding():
    fusion = randomise(Fusion(24, 48, 3, 0.0)).eval()
    cls, other = torch.randn(2, 1, 24), torch.randn(2, 9, 48)
    valid = torch.arange(9) < torch.tensor([[9], [5]])
    got = fusion(cls, other, valid)
    torch.testing.assert_close(got[:1], fusion(cls[:1], other[:1]))
    torch.testing.assert_close(got[1:], fusion(cls[1:], other[1:, :5]))


@torch.no_grad()
def test_without_sampling_the_mechanisms_are_the_plain_ones():
    for kind, plain in (
        ('EAttention', 'LinearAttention'),
        ('SampledSoftmaxAttention', 'SoftmaxAttention'),
    ):
        sampled = build(attention={'type': kind, 'sample': False}).eval()
        other = build(attention={'type': plain}).eval()
        assert deviation(sampled(images(64, 96)), other(images(64, 96))) < 1e-5
