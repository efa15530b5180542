"""What ``switch_to_deploy()`` promises of every network: the same outputs, and nothing to train."""

import copy

import pytest
import torch
from test_contract import CASES, SIZES, images, randomise_norms
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import StochasticDepth

import effvit_mm
from effvit_mm.attention.caching import SizeCache
from effvit_mm.deploy import (
    ShiftedConv2d,
    fold_batch_norms,
    fold_conv_norm,
    fold_linear_norm,
    fold_norm_conv,
    fold_norm_linear,
)
from effvit_mm.heads import DistilledHeads, LeViTHead, TokenHeads

POSITIONS = ('table', 'rel_pos', 'pos_embed')


def as_trained(model):
    """Norms and positions that hide nothing, in evaluation mode."""
    for name, parameter in randomise_norms(model).named_parameters():
        if any(part in name for part in POSITIONS):
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


def build(case, **kwargs):
    return as_trained(case.build(out_indices=case.all_maps, **kwargs))


def deviation(got, want):
    """Largest difference over the largest value, of the worst of several tensors."""
    pairs = zip(got, want, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


class Operators(TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))

    @property
    def softmax(self):
        return {n for n in self.names if 'softmax' in n or 'scaled_dot_product' in n}


@torch.no_grad()
def test_outputs_stay(case):
    """At every size, met for the first time and again: what is kept for one serves no other."""
    model = build(case)
    deployed = copy.deepcopy(model)
    assert deployed.switch_to_deploy() is deployed
    for size in (*SIZES, (35, 41), *SIZES):
        assert deviation(deployed(images(*size)), model(images(*size))) < 1e-4, size


@torch.no_grad()
def test_switching_again_changes_nothing(case):
    model = build(case).switch_to_deploy()
    before, maps = model.state_dict(), model(images(64, 96))
    assert model.switch_to_deploy() is model
    for module in model.modules():  # as generic tools do
        if hasattr(module, 'switch_to_deploy'):
            module.switch_to_deploy()
    assert model.state_dict().keys() == before.keys()
    assert not any(p.requires_grad for p in model.parameters())
    assert all(map(torch.equal, model(images(64, 96)), maps))


@torch.no_grad()
def test_switching_module_by_module(case):
    """Tools that call every ``switch_to_deploy`` they meet get the same network."""
    model = build(case)
    want = model(images(64, 96))
    for module in model.modules():
        if hasattr(module, 'switch_to_deploy'):
            module.switch_to_deploy()
    assert deviation(model(images(64, 96)), want) < 1e-4
    assert model.deployed


def test_what_training_needs_is_gone(case):
    model = build(case, drop_path_rate=0.5)
    castling = 'attention' in case.kwargs and 'Angular' in case.kwargs['attention']['type']
    model.switch_to_deploy()
    assert not any(isinstance(m, _BatchNorm | StochasticDepth) for m in model.modules())
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


def test_exports(case):
    model = build(case).switch_to_deploy()
    x = images(75, 97, batch=1)
    with torch.no_grad():
        want = model(x)
    exported = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        assert deviation(exported(x), want) < 1e-4
        assert deviation(model(x), want) == 0  # tracing left nothing behind


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


@pytest.mark.parametrize('name', effvit_mm.list_models())
@torch.no_grad()
def test_named_models(name):
    torch.manual_seed(0)
    model = as_trained(effvit_mm.create_model(name, num_classes=7))
    x = images(64, 96)
    want = model(x)
    with Operators() as operators:
        got = model.switch_to_deploy()(x)
    assert deviation([got], [want]) < 1e-4
    assert not any(isinstance(m, _BatchNorm) for m in model.modules())
    linear = name.startswith(('castling', 'lightweight'))
    assert bool(operators.softmax) != linear, operators.softmax
    with pytest.raises(RuntimeError, match='Classifier was switched'):
        model.train()


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


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('groups', [1, 16])
@pytest.mark.parametrize(
    'size', [(1, 1), (1, 5), (2, 3), (8, 8), (9, 7), (90, 83), (84, 90)], ids=str
)
@torch.no_grad()
def test_shift_ends_at_the_padding(stride, groups, size):
    """The norm stands in front of the padding: what is padded is zero, not the norm's shift."""
    torch.manual_seed(0)
    norm, conv = random_norm(16), nn.Conv2d(16, 16, 3, stride, 1, groups=groups)
    norm.weight[3] = 0  # a channel that is nothing but shift
    x = torch.randn(2, 16, *size)
    folded, want = fold_norm_conv(norm, conv), conv(norm(x))
    assert isinstance(folded, ShiftedConv2d)
    for memory in (torch.contiguous_format, torch.channels_last):
        for _ in range(2):
            got = folded(x.contiguous(memory_format=memory))
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    naive = folded.conv(x)  # scale in the weights, shift in the bias
    assert (naive - want)[:, :, 0].abs().max() > 1e-2
    if min(size) > 4:
        torch.testing.assert_close(naive[:, :, 1:-1, 1:-1], want[:, :, 1:-1, 1:-1])


@torch.no_grad()
def test_edges_of_a_network_need_the_correction():
    """Without it PSLT is wrong, and most so at the border: the tests above would see that."""
    model = as_trained(CASES['PSLT'].build(out_indices=0))
    want = model(images(64, 64))[0]
    model.switch_to_deploy()
    assert deviation(model(images(64, 64)), [want]) < 1e-4
    for module in model.modules():
        if isinstance(module, ShiftedConv2d):
            module.taps.zero_()
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
        assert head.switch_to_deploy() is head
        torch.testing.assert_close(head.logits(x), want)
    (layer,) = (m for m in head.modules() if isinstance(m, nn.Linear))
    assert (layer.in_features, layer.out_features) == (12, 5)
    assert all(torch.equal(branch, head.logits(x)) for branch in head.branches(x))


@torch.no_grad()
def test_what_is_kept_is_of_the_present_weights(case):
    """Converted there and back, weights are rounded, and lie where others lay before."""
    deployed, x = build(case).switch_to_deploy(), images(*SIZES[0])
    for _ in range(2):
        deployed(x)
    deployed.bfloat16().float()
    fresh = copy.deepcopy(deployed)  # keeps nothing yet
    assert deviation(deployed(x), fresh(x)) < 1e-5


def test_cache_forgets_the_oldest_and_the_outdated():
    cache, source, made = SizeCache(active=True, budget=100), nn.Parameter(torch.ones(3)), []

    def get(size):
        def compute():
            made.append(size)
            return source.sum() * torch.ones(size)

        return cache.get(size, source, compute)

    for size in (10, 11, 10, 10, 11):
        assert get(size).shape == (size,)
    assert made == [10, 11]
    get(12)  # 132 bytes with the others: the oldest go
    assert list(cache.entries) == [11, 12] or list(cache.entries) == [12]
    get(26)
    assert list(cache.entries) == []  # too large to be kept at all
    get(5)
    with torch.no_grad():
        source.copy_(torch.zeros(3))
    assert not get(5).any()
    assert not get(5).requires_grad
    cache.active = False
    assert get(5).requires_grad


def test_cache_is_not_deceived_by_new_weights_in_old_memory():
    cache, layer = SizeCache(active=True), nn.Linear(64, 64)
    for _ in range(20):
        assert cache.get((), layer.weight, lambda: layer.weight.sum()) == layer.weight.sum()
        layer.weight.data = torch.empty(0)  # the old is free, for the next to take
        layer.weight.data = torch.rand(64, 64)
