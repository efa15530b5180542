"""What every backbone promises. A new backbone joins by a row of ``CASES``."""

import copy
from dataclasses import dataclass, field

import pytest
import torch

import effvit_mm
from effvit_mm.backbones import PSLT, Backbone


@dataclass
class Case:
    """A small variant of a backbone, fast enough to be run many times."""

    cls: type[Backbone]
    arch: dict
    norm: str | None = None  # name of the norm behind the last map
    kwargs: dict = field(default_factory=dict)

    def build(self, **kwargs) -> Backbone:
        torch.manual_seed(0)
        return randomise_norms(self.cls(self.arch, **{**self.kwargs, **kwargs}))


CASES = {
    'PSLT': Case(
        PSLT, {'embed_dims': 12, 'depths': (1, 2, 2, 1), 'num_heads': (4, 8)}, norm='norm'
    ),
    'PSLT masked': Case(
        PSLT,
        {'embed_dims': 6, 'depths': (1, 1, 1, 1), 'num_heads': (2, 4)},
        norm='norm',
        kwargs={'mask_padding': True, 'shifts': (0, -2), 'window_size': 4},
    ),
}
SIZES = ((32, 32), (33, 47), (64, 96), (256, 128), (97, 225))


def randomise_norms(model):
    """Batch norms as after training: fresh ones hide mistakes behind mean 0 and scale 1."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.6, 1.5)
            torch.nn.init.uniform_(module.weight, 0.6, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return model


def images(*size, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def grads(model, x):
    """Gradients of all parameters after one seeded training step's backward pass."""
    model.zero_grad()
    torch.manual_seed(2)
    sum(m.square().mean() for m in model(x)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize('size', SIZES, ids=str)
@torch.no_grad()
def test_maps_of_any_size(case, size):
    model = case.build(out_indices=range(4)).eval()
    maps = model(images(*size))
    assert isinstance(maps, tuple) and len(maps) == 4
    for out, channels, stride in zip(maps, model.out_channels, model.out_strides, strict=True):
        assert out.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert out.isfinite().all()


@torch.no_grad()
def test_images_of_a_batch_are_independent(case):
    model = case.build(out_indices=range(4)).eval()
    x = images(70, 90, batch=3)
    for whole, single in zip(model(x), model(x[1:2]), strict=True):
        torch.testing.assert_close(whole[1:2], single, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_sizes_do_not_disturb_each_other(case):
    model = case.build().eval()
    before = model(images(320, 256))[0]
    for size in SIZES:
        model(images(*size))
    assert torch.equal(model(images(320, 256))[0], before)


@pytest.mark.parametrize(
    ('given', 'chosen'),
    [(-1, [3]), (0, [0]), ([1, 3], [1, 3]), ((0, -1), [0, 3]), (range(4), [0, 1, 2, 3]), (2, [2])],
    ids=str,
)
@torch.no_grad()
def test_out_indices(case, given, chosen):
    model = case.build(out_indices=given).eval()
    assert model.out_indices == tuple(chosen)
    whole = case.build(out_indices=range(4)).eval()
    if len(model.stages) == 4:
        model.load_state_dict(whole.state_dict())
    else:  # stages that nobody asked for are not built
        model.load_state_dict(whole.state_dict(), strict=False)
    maps, x = model(images(64, 64)), images(64, 64)
    for ours, index in zip(maps, chosen, strict=True):
        torch.testing.assert_close(ours, whole(x)[index])


@pytest.mark.parametrize('bad', [4, -5, [], [1, 1], [3, 0], [0, 7]], ids=str)
def test_out_indices_out_of_range(case, bad):
    with pytest.raises(ValueError, match='out_indices'):
        case.build(out_indices=bad)


@pytest.mark.parametrize('bad', ['1', 1.0, None, [0.5]], ids=str)
def test_out_indices_of_wrong_type(case, bad):
    with pytest.raises(TypeError, match='out_indices'):
        case.build(out_indices=bad)


def test_arguments_are_checked(case):
    with pytest.raises(ValueError, match=r"arch='tinny'.*there are: "):
        case.cls('tinny')
    with pytest.raises(ValueError, match='lacks'):
        case.cls(dict(list(case.arch.items())[1:]))
    with pytest.raises(ValueError, match=r"unknown.*'widht'"):
        case.cls({**case.arch, 'widht': 1})
    with pytest.raises(TypeError, match='arch'):
        case.cls(3)
    with pytest.raises(ValueError, match=r'drop_path_rate=1\.5'):
        case.build(drop_path_rate=1.5)
    for bad in (-2, 5, 1.0):
        with pytest.raises(ValueError, match=f'frozen_stages={bad}'):
            case.build(frozen_stages=bad)


@pytest.mark.parametrize('shape', [(1, 3, 31, 64), (1, 3, 64, 8), (1, 1, 64, 64), (3, 64, 64)])
def test_input_is_checked(case, shape):
    with pytest.raises(ValueError, match='takes images'):
        case.build()(torch.zeros(shape))


@pytest.mark.parametrize('out_indices', [-1, 1, range(4)], ids=str)
def test_every_parameter_has_a_gradient(case, out_indices):
    model = case.build(out_indices=out_indices, drop_path_rate=0.0).train()
    found = grads(model, images(64, 96, batch=4))
    assert found.keys() == dict(model.named_parameters()).keys()
    assert all(g.isfinite().all() and g.any() for g in found.values())


@pytest.mark.parametrize('frozen', range(-1, 5))
def test_freezing_freezes(case, frozen):
    model = case.build(out_indices=range(4), frozen_stages=frozen).train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    sum(m.square().mean() for m in model(images(64, 64))).backward()
    optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    frozen_names = [*case.cls.stem_names] if frozen >= 0 else []
    frozen_names += [f'stages.{i}' for i in range(frozen)]
    assert not any(name.startswith(f'{part}.') for name in changed for part in frozen_names)
    free = ['stem'] * (frozen < 0) + [f'stages.{i}' for i in range(max(frozen, 0), 4)]
    for part in free:
        assert any(name.startswith(f'{part}.') for name in changed), part


def test_norm_eval_keeps_statistics(case):
    model = case.build(norm_eval=True).train()
    before = copy.deepcopy(dict(model.named_buffers()))
    model(images(64, 64))
    assert all(torch.equal(v, before[k]) for k, v in model.named_buffers())
    assert model.stages[0].training


def test_train_and_eval_return_self(case):
    model = case.build(frozen_stages=1)
    assert model.train() is model and model.eval() is model
    assert model.train(False) is model and not model.training


def test_checkpointing_changes_nothing_but_memory(case):
    """Gradients, and the statistics of batch norms, which a second forward could disturb."""
    plain = case.build(out_indices=range(4), drop_path_rate=0.3).train()
    saving = case.build(out_indices=range(4), drop_path_rate=0.3, with_cp=True).train()
    saving.load_state_dict(plain.state_dict())
    x = images(64, 96, batch=4)
    want, got = grads(plain, x), grads(saving, x)
    assert want.keys() == got.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6, msg=name)
    for name, value in plain.named_buffers():
        assert torch.equal(value, saving.get_buffer(name)), name


def test_checkpointing_keeps_less(case):
    def kept(model):
        sizes = []
        pack = lambda t: (sizes.append(t.numel()), t)[1]  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            model(images(128, 128))
        return sum(sizes)

    assert kept(case.build(with_cp=True).train()) < 0.5 * kept(case.build().train())


@torch.no_grad()
def test_state_dict_round_trip(case, tmp_path):
    model = case.build().eval()
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    torch.manual_seed(9)
    other = case.cls(
        case.arch,
        **case.kwargs,
        init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'weights.pth')},
    ).eval()
    other.init_weights()
    assert torch.equal(other(images(64, 64))[0], model(images(64, 64))[0])


def test_init_weights_is_idempotent(case):
    model = case.build()
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    model.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_drop_path_works_in_training_alone(case):
    model = case.build(drop_path_rate=0.9)
    torch.nn.Module.train(model, True)
    x = images(64, 64)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    with torch.no_grad():
        assert not torch.equal(model(x)[0], model(x)[0])
        model.eval()
        assert torch.equal(model(x)[0], model(x)[0])


def test_layer_depths_cover_the_network(case):
    model = case.build(out_indices=range(4))
    depths = {}
    for name, _ in model.named_parameters():
        depth, count = model.get_layer_depth(f'backbone.{name}', prefix='backbone.')
        assert 0 <= depth < count
        depths.setdefault(depth, name)
    blocks = sum(len(stage) for stage in model.stages)
    assert count == blocks + 2
    assert sorted(depths) == list(range(blocks + 1 + (case.norm is not None)))
    assert model.get_layer_depth('head.fc.weight', prefix='backbone.') == (count - 1, count)


def test_autocast_stays_close(case):
    model = case.build(out_indices=range(4)).eval()
    with torch.no_grad():
        exact = model(images(64, 96))
        with torch.autocast('cpu', torch.bfloat16):
            rough = model(images(64, 96))
    for a, b in zip(exact, rough, strict=True):
        assert b.isfinite().all()
        assert (a - b.float()).norm() < 0.05 * a.norm()


def test_training_after_inference_mode(case):
    """What is cached under inference_mode must not poison a later backward pass."""
    model = case.build(out_indices=range(4))
    size = (352, 160)
    with torch.inference_mode():
        model.eval()(images(*size, batch=1))
    assert grads(model.train(), images(*size))


def test_exports(case):
    model = case.build(out_indices=range(4)).eval()
    x = images(96, 64, batch=1)
    exported = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        for a, b in zip(exported(x), model(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', effvit_mm.list_models())
def test_named_models(name):
    """Every name builds a classifier and a backbone; the classifier takes any size."""
    model = effvit_mm.create_model(name, num_classes=7).eval()
    with torch.no_grad():
        assert model(images(64, 96)).shape == (2, 7)
    backbone = effvit_mm.create_model(name, features_only=True, out_indices=(0, 1))
    assert len(backbone.out_channels) == 2
    features = effvit_mm.create_model(name, num_classes=0).eval()
    with torch.no_grad():
        assert features(images(64, 64)).shape == (2, features.num_features)
