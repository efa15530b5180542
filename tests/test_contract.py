"""What every backbone promises. A new backbone joins by a row of ``networks.CASES``."""

import copy

import pytest
import torch
from networks import CASES, SIZES, grads, images, needs_exporter

import effvit_mm
from effvit_mm.backbones.base import WHOLE, BatchNorm
from effvit_mm.openmm import backbones as configured


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize('size', SIZES, ids=str)
@torch.no_grad()
def test_maps_of_any_size(case, size):
    model = case.build(out_indices=case.all_maps).eval()
    maps = model(images(*size))
    assert isinstance(maps, tuple) and len(maps) == len(case.all_maps)
    for i, (out, channels) in enumerate(zip(maps, model.out_channels, strict=True)):
        assert out.shape == (2, channels, *model.map_size(size, i))
        assert out.isfinite().all()
    for i, stride in enumerate(model.out_strides):
        exact = [side / stride for side in size]
        assert all(abs(a - b) < 1 for a, b in zip(exact, model.map_size(size, i), strict=True))


@torch.no_grad()
def test_images_of_a_batch_are_independent(case):
    model = case.build(out_indices=case.all_maps).eval()
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


@pytest.mark.parametrize('given', [-1, 0, 1, [0, 1], (0, -1), [1, 3], range(4), 2], ids=str)
@torch.no_grad()
def test_out_indices(case, given):
    count = case.cls.num_maps
    if count == 2:  # the same choices among fewer maps
        given = {2: 1, (1, 3): [1], (0, 1, 2, 3): range(2)}.get(
            given if isinstance(given, int) else tuple(given), given
        )
    chosen = [i % count for i in ([given] if isinstance(given, int) else given)]
    model = case.build(out_indices=given).eval()
    assert model.out_indices == tuple(chosen)
    whole = case.build(out_indices=case.all_maps).eval()
    # What nobody asked for is not built.
    own = model.state_dict()
    model.load_state_dict({k: v for k, v in whole.state_dict().items() if k in own})
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
    for key in WHOLE.keys() & case.arch.keys():
        for bad in (2**40, 1.5, [1, [-1]], 'x', None):
            with pytest.raises(ValueError, match=rf'arch: {key}=.*: .*numbers? .* needed'):
                case.cls({**case.arch, key: bad})
    for key, value in case.arch.items():
        if isinstance(value, str):
            continue
        several = isinstance(value, tuple)
        for bad in (value[:-1], (*value, value[-1]), value[0]) if several else ((value, value),):
            with pytest.raises(ValueError, match=rf'arch: {key}=.*numbers? .*needed'):
                case.cls({**case.arch, key: bad})
    if 'mlp_ratio' in case.arch:
        for bad in (0, -1, float('nan'), '4'):
            with pytest.raises(ValueError, match=r'arch: mlp_ratio=.*: a number above 0 is needed'):
                case.cls({**case.arch, 'mlp_ratio': bad})
    with pytest.raises(TypeError, match='arch'):
        case.cls(3)
    with pytest.raises(ValueError, match=r'drop_path_rate=1\.5'):
        case.build(drop_path_rate=1.5)
    for bad in (-2, case.num_stages + 1, 1.0):
        with pytest.raises(ValueError, match=f'frozen_stages={bad}'):
            case.build(frozen_stages=bad)


@pytest.mark.parametrize('shape', [(1, 3, 31, 64), (1, 3, 64, 8), (1, 1, 64, 64), (3, 64, 64)])
def test_input_is_checked(case, shape):
    with pytest.raises(ValueError, match='takes images'):
        case.build()(torch.zeros(shape))


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64, torch.bool])
def test_pixels_as_they_are_in_files_are_refused(case, dtype):
    with pytest.raises(ValueError, match=f'floating-point numbers, normalised, not {dtype}'):
        case.build()(torch.zeros(1, 3, 64, 64, dtype=dtype))


@pytest.mark.parametrize('out_indices', [-1, 0, 'all'], ids=str)
def test_every_parameter_has_a_gradient(case, out_indices):
    chosen = case.all_maps if out_indices == 'all' else out_indices
    model = case.build(out_indices=chosen, drop_path_rate=0.0).train()
    found = grads(model, images(64, 96, batch=4))
    assert found.keys() == dict(model.named_parameters()).keys()
    assert all(g.isfinite().all() and g.any() for g in found.values())


@pytest.mark.parametrize(
    ('case', 'frozen'),
    [(name, n) for name, case in CASES.items() for n in range(-1, case.num_stages + 1)],
    indirect=['case'],
)
def test_freezing_freezes(case, frozen):
    model = case.build(out_indices=case.all_maps, frozen_stages=frozen).train()
    before = copy.deepcopy(model.state_dict())
    loss = sum(m.square().mean() for m in model(images(64, 64)))
    if free := [p for p in model.parameters() if p.requires_grad]:
        loss.backward()
        torch.optim.SGD(free, lr=0.1).step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    frozen_names = ['stem'] if frozen >= 0 else []
    frozen_names += [f'stages.{i}' for i in range(frozen)]
    assert not any(name.startswith(f'{part}.') for name in changed for part in frozen_names)
    free = ['stem'] * (frozen < 0) + [f'stages.{i}' for i in range(max(frozen, 0), case.num_stages)]
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
    plain = case.build(out_indices=case.all_maps, drop_path_rate=0.3).train()
    saving = case.build(out_indices=case.all_maps, drop_path_rate=0.3, with_cp=True).train()
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
    other = getattr(configured, case.cls.__name__)(
        case.arch,
        **case.kwargs,
        init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'weights.pth')},
    ).eval()
    other.init_weights()
    assert torch.equal(other(images(64, 64))[0], model(images(64, 64))[0])


def test_init_weights_is_idempotent(case):
    model = getattr(configured, case.cls.__name__)(case.arch, **case.kwargs)
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    model.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_drop_path_works_in_training_alone(case):
    model = case.build(drop_path_rate=0.5)
    torch.nn.Module.train(model, True)
    x = images(64, 64)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.eval()
    with torch.no_grad():
        assert not torch.equal(model(x)[0], model(x)[0])
        model.eval()
        assert torch.equal(model(x)[0], model(x)[0])


def test_layer_depths_cover_the_network(case):
    model = case.build(out_indices=case.all_maps)
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
    model = case.build(out_indices=case.all_maps).eval()
    with torch.no_grad():
        exact = model(images(64, 96))
        with torch.autocast('cpu', torch.bfloat16):
            rough = model(images(64, 96))
    for a, b in zip(exact, rough, strict=True):
        assert b.isfinite().all()
        assert (a - b.float()).norm() < 0.05 * a.norm()


def test_training_after_inference_mode(case):
    """What is cached under inference_mode must not poison a later backward pass."""
    model = case.build(out_indices=case.all_maps)
    size = (352, 160)
    with torch.inference_mode():
        model.eval()(images(*size, batch=1))
    assert grads(model.train(), images(*size))


@needs_exporter
def test_exports(case):
    model = case.build(out_indices=case.all_maps).eval()
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
