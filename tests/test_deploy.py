"""What ``switch_to_deploy()`` promises of every network: the same outputs, and nothing to train."""

import copy

import pytest
import torch
from networks import CASES, SIZES, VIT, Case, as_trained, deviation, images, needs_exporter
from torch import nn

import effvit_mm
from effvit_mm.attention import SoftmaxAttention
from effvit_mm.backbones import VisionTransformer
from effvit_mm.backbones.base import BatchNorm
from effvit_mm.backbones.stochastic_depth import StochasticDepth
from effvit_mm.deploy import switch_modules


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


def build(case, **kwargs):
    return as_trained(case.build(out_indices=case.all_maps, **kwargs))


@torch.no_grad()
def test_outputs_stay(case):
    """At every size, met for the first time and again: what is kept for one serves no other."""
    model = build(case)
    deployed = copy.deepcopy(model)
    assert deployed.switch_to_deploy() is deployed
    for size in (*SIZES, (35, 41), *SIZES):
        assert deviation(deployed(images(*size)), model(images(*size))) < 1e-4, size
    for batch in (1, 3):
        for memory in (torch.contiguous_format, torch.channels_last):
            x = images(97, 75, batch=batch).contiguous(memory_format=memory)
            assert deviation(deployed(x), model(x)) < 1e-4, (batch, memory)


@torch.no_grad()
def test_switching_again_changes_nothing(case):
    model = build(case).switch_to_deploy()
    before, maps = model.state_dict(), model(images(64, 96))
    assert model.switch_to_deploy() is model
    assert model.state_dict().keys() == before.keys()
    assert not any(p.requires_grad for p in model.parameters())
    assert all(map(torch.equal, model(images(64, 96)), maps))


@torch.no_grad()
def test_networks_within_other_modules(case):
    """A network that holds others, ours or not, is switched with all that it holds."""
    model, x = build(case), images(64, 96)
    want = model(x)
    outer = nn.Sequential(model, nn.Identity()).eval()
    assert switch_modules(outer) is outer
    assert outer[0] is model and model.deployed
    assert deviation(outer(x), want) < 1e-4


def test_what_training_needs_is_gone(case):
    model = build(case, drop_path_rate=0.5)
    castling = 'Angular' in case.kwargs.get('attention', {}).get('type', '')
    model.switch_to_deploy()
    assert not any(isinstance(m, (*BatchNorm, StochasticDepth)) for m in model.modules())
    assert not any(m.training for m in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    if castling:
        assert not any(
            'relative_position' in name or 'rel_pos' in name for name in model.state_dict()
        )


def test_training_is_refused(case):
    model = build(case, frozen_stages=0, norm_eval=True).switch_to_deploy()
    for network in (model, effvit_mm.models.Classifier(model, None).switch_to_deploy()):
        with pytest.raises(RuntimeError, match='cannot be trained'):
            network.train()
        assert network.eval() is network
        assert not any(m.training for m in network.modules())


def test_gradients_of_the_image(case):
    model = build(case)
    grads = []
    for _ in range(2):
        x = images(64, 96).requires_grad_()
        torch.manual_seed(0)
        # Not their squares: where maps are layer-normed those add up to nearly the same.
        torch.stack([(m * torch.randn_like(m)).sum() for m in model(x)]).sum().backward()
        grads.append(x.grad)
        model.switch_to_deploy()
    assert deviation(grads[1:], grads[:1]) < 1e-4


@torch.no_grad()
def test_state_dict_round_trip(case, tmp_path):
    model = build(case).switch_to_deploy()
    torch.save(model.state_dict(), tmp_path / 'deployed.pth')
    torch.manual_seed(9)
    other = as_trained(case.cls(case.arch, out_indices=case.all_maps, **case.kwargs))
    other.switch_to_deploy()
    other(images(64, 64))  # what was kept must not outlive its weights
    other.load_state_dict(torch.load(tmp_path / 'deployed.pth', weights_only=True))
    assert all(map(torch.equal, other(images(64, 64)), model(images(64, 64))))


@torch.no_grad()
def test_pickles_and_copies(case, tmp_path):
    model = build(case).switch_to_deploy()
    want = model(images(64, 64))
    torch.save(model, tmp_path / 'model.pth')
    for other in (copy.deepcopy(model), torch.load(tmp_path / 'model.pth', weights_only=False)):
        assert all(map(torch.equal, other(images(64, 64)), want))
        with pytest.raises(RuntimeError, match='cannot be trained'):
            other.train()


@needs_exporter
def test_exports(case):
    model = build(case).switch_to_deploy()
    x = images(75, 97, batch=1)
    with torch.no_grad():
        want = model(x)
    exported = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        assert deviation(exported(x), want) < 1e-4
        assert deviation(model(x), want) == 0  # tracing left nothing behind


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@torch.no_grad()
def test_traces(case):
    """As the frameworks' own counters of multiply-adds do."""
    model, x = build(case).switch_to_deploy(), images(97, 64, batch=1)
    assert deviation(torch.jit.trace(model, x, check_trace=False)(x), model(x)) < 1e-5


def test_inference_mode_and_autocast(case):
    model = build(case)
    deployed = copy.deepcopy(model).switch_to_deploy()
    with torch.no_grad():
        want = model(images(64, 96))
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        rough, plain = deployed(images(64, 96)), model(images(64, 96))
    with torch.inference_mode():
        exact = deployed(images(64, 96))
    assert deviation(exact, want) < 1e-4  # the coarser constants of before are not taken up
    for a, b, c in zip(rough, plain, want, strict=True):
        assert (a.float() - c).norm() < 1.5 * (b.float() - c).norm() + 1e-3 * c.norm()


@torch.no_grad()
def test_other_types(case):
    """Weights that move to another type take the constants along."""
    model = build(case)
    want = copy.deepcopy(model).double()(images(64, 96).double())
    model.switch_to_deploy()(images(64, 96))
    assert deviation(model.double()(images(64, 96).double()), want) < 1e-4


@torch.no_grad()
def test_classifiers_are_switched_with_backbone_and_head():
    model = as_trained(effvit_mm.create_model('levit_128s', num_classes=7))
    want, parts = model(images(64, 96)), (model.backbone, model)
    assert deviation(model.switch_to_deploy()(images(64, 96)), want) < 1e-4
    assert all(part.deployed for part in parts)
    with pytest.raises(RuntimeError, match='Classifier was switched'):
        model.train()


@pytest.mark.parametrize('distilled', [False, True])
@pytest.mark.parametrize(
    'kind', ['EAttention', 'SampledSoftmaxAttention', 'LinearAngularAttention', 'SoftmaxAttention']
)
@torch.no_grad()
def test_classifiers_leave_out_what_nobody_sees(kind, distilled):
    """The patch tokens of the last block; the tokens that it keeps are counted all the same."""
    sampled = (1, 3, 4) if kind in ('EAttention', 'SampledSoftmaxAttention') else None
    case = Case(
        VisionTransformer, VIT, kwargs={'attention': {'type': kind}, 'sampled_blocks': sampled}
    )
    model = as_trained(case.build(out_type='cls_token', distilled=distilled))
    deployed = copy.deepcopy(model).switch_to_deploy()
    for size, batch in (((80, 112), 1), ((75, 97), 3)):
        x = images(*size, batch=batch)
        assert deviation(deployed(x), model(x)) < 1e-5
        assert len(deployed.kept_tokens) == len(model.kept_tokens)
        assert all(map(torch.equal, deployed.kept_tokens, model.kept_tokens))
    counts = [effvit_mm.count_flops(network, (3, 80, 112)) for network in (deployed, model)]
    assert counts[0] < 0.97 * counts[1]


@torch.no_grad()
def test_own_mechanism_is_asked_for_all_tokens():
    """One that does not say it can answer for the extra tokens alone is never asked to."""

    class Own(SoftmaxAttention):
        takes_extra_queries = False

    queries = []
    for kind in ('SoftmaxAttention', Own):
        model = VisionTransformer(VIT, attention={'type': kind}, out_type='cls_token')
        last = model.switch_to_deploy().stages[-1][-1].attn.mechanism
        last.register_forward_pre_hook(lambda module, args: queries.append(args[0].shape[2]))
        model(images(80, 80))
    assert queries == [1, 26]


@needs_exporter
@torch.no_grad()
def test_compiled_for_any_size():
    """One graph serves every size and batch."""
    model = as_trained(CASES['VisionTransformer castling'].build()).switch_to_deploy()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, dynamic=True)
    for size, batch in (((96, 112), 2), ((128, 80), 3), ((144, 160), 2)):
        x = images(*size, batch=batch)
        assert deviation(compiled(x), model(x)) < 1e-5
    assert len(graphs) == 1
    torch.compiler.reset()


def test_cost_of_castling_is_linear_in_the_tokens():
    for name, linear in (('castling_deit_tiny', True), ('deit_tiny', False)):
        with torch.device('meta'):
            model = effvit_mm.create_model(name).switch_to_deploy()
        small, large = (effvit_mm.count_flops(model, (3, side, side)) for side in (256, 1024))
        assert (large < 16 * small) == linear


@pytest.mark.parametrize(
    ('name', 'square'),
    [('castling_deit_tiny', False), ('castling_levit_128s', False), ('levit_128s', True)],
)
@torch.no_grad()
def test_castling_makes_no_square_matrix(name, square):
    """4,096 tokens: no tensor of the whole deployed model is near 4,096 x 4,096; LeViT's own is."""
    model = effvit_mm.create_model(name, num_classes=7).switch_to_deploy()
    x = images(1024, 1024, batch=1)
    with torch.profiler.profile(profile_memory=True) as profile:
        model(x)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest > 0 and (largest > 4096 * 4096 * 4 / 2) == square


# --- weights that change after deployment -------------------------------------------------------


def by_data(module, name, value):
    getattr(module, name).data.copy_(value)


def in_place(module, name, value):
    with torch.no_grad():
        getattr(module, name).copy_(value)


def replaced(module, name, value):
    old = getattr(module, name)
    setattr(module, name, nn.Parameter(value.clone()) if isinstance(old, nn.Parameter) else value)


def name_of(change):
    return getattr(change, '__name__', change)


def every_tensor(model):
    """``(module, name of its own, name in the state dict)`` of parameters and floating buffers."""
    for path, module in model.named_modules():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, value in own:
            if value.is_floating_point():
                yield module, name, f'{path}.{name}'.removeprefix('.')


def other_weights(model):
    torch.manual_seed(5)
    return {
        name: value + 0.1 * value.std(correction=0) * torch.randn_like(value) + 0.01
        if value.is_floating_point()
        else value
        for name, value in model.state_dict().items()
    }


@pytest.mark.parametrize('change', [by_data, in_place, replaced, 'load_state_dict'], ids=name_of)
@torch.no_grad()
def test_new_weights_are_the_ones_that_count(case, change):
    """Nothing that was made of the old ones outlives them."""
    model = build(case).switch_to_deploy()
    fresh, x = copy.deepcopy(model), images(64, 96)
    for mode in (torch.no_grad, torch.inference_mode):
        for _ in range(2):
            with mode():
                before = model(x)
    new = other_weights(model)
    fresh.load_state_dict(new)
    if change == 'load_state_dict':
        model.load_state_dict(new)
    else:
        tensors = list(every_tensor(model))
        assert {path for *_, path in tensors} >= dict(model.named_parameters()).keys()
        for module, name, path in tensors:
            change(module, name, new[path])
    want = fresh(x)
    assert all(map(torch.equal, model(x), want))
    assert deviation(model(x), before) > 1e-2


@pytest.mark.parametrize(
    'name', ['PSLT', 'CrossViT', 'LeViT', 'MViTv2', 'VisionTransformer castling']
)
@torch.no_grad()
def test_each_new_weight_counts(name):
    """One after another, by writing to ``.data``, of which autograd's counters know nothing."""
    model = build(CASES[name]).switch_to_deploy()
    fresh, x = copy.deepcopy(model), images(32, 32, batch=1)
    new, state = other_weights(model), model.state_dict()
    for module, name, path in every_tensor(model):
        model(x)
        by_data(module, name, new[path])
        state = {**state, path: new[path]}
        fresh.load_state_dict(state)
        assert all(map(torch.equal, model(x), fresh(x))), path
