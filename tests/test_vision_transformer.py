"""The plain host equals timm's DeiT; tokens sampled away stay away and leave their map."""

from itertools import pairwise

import pytest
import timm
import torch
from networks import VIT as SMALL
from networks import images
from timm.layers import resample_abs_pos_embed

import effvit_mm
from effvit_mm.backbones import VisionTransformer
from effvit_mm.backbones.transformer import resize_cubic, resize_positions
from effvit_mm.weights import load_checkpoint

TIMM = {
    f'deit_{arch}{kind}': f'deit_{arch}{kind}_patch16_224'
    for arch in VisionTransformer.arch_settings
    for kind in ('', '_distilled')
}


def small(kind='EAttention', seed=0, **kwargs):
    torch.manual_seed(seed)
    options = kwargs.pop('options', {})
    kwargs.setdefault('sampled_blocks', (1, 3))
    model = VisionTransformer(SMALL, attention={'type': kind, **options}, **kwargs).eval()
    for parameter in model.parameters():  # scores of a fresh network are all alike
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def pair(name, **kwargs):
    """timm's network with weights that hide nothing, and ours with the same."""
    torch.manual_seed(0)
    reference = timm.create_model(TIMM[name], **kwargs).eval()
    for parameter_name, p in reference.named_parameters():
        scale = parameter_name.endswith('weight') and p.ndim == 1
        torch.nn.init.normal_(p, mean=float(scale), std=0.05 if p.ndim > 1 else 0.2)
    state = effvit_mm.convert_state_dict(reference.state_dict(), name)
    model = effvit_mm.create_model(name).eval()
    load_checkpoint(model, state, require='exact')
    return reference, model


@pytest.mark.parametrize('name', TIMM)
@torch.no_grad()
def test_equals_timm(name):
    reference, model = pair(name)
    x = images(224, 224)
    want = reference(x)
    assert (model(x) - want).abs().max() <= 1e-4 * want.abs().max()


@pytest.mark.parametrize('name', ['deit_tiny', 'deit_tiny_distilled'])
@torch.no_grad()
def test_equals_timm_at_other_sizes(name):
    reference, model = pair(name, dynamic_img_size=True)
    for size in ((256, 128), (112, 112), (384, 384)):
        x = images(*size)
        want = reference(x)
        assert (model(x) - want).abs().max() <= 1e-4 * want.abs().max()


class Resize(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return resize_cubic(x, self.size)


@pytest.mark.parametrize('new', [(16, 8), (7, 7), (24, 24), (1, 2), (3, 40), (14, 10)])
def test_positions_are_resized_as_by_timm(new):
    positions = torch.randn(1, 2 + 14 * 10, 8, requires_grad=True)
    got = resize_positions(positions, 2, (14, 10), new)
    want = resample_abs_pos_embed(positions, list(new), [14, 10], 2)
    torch.testing.assert_close(got, want)
    tables = torch.randn(1, 8, 14, 10)
    exported = torch.export.export(Resize(new), (tables,)).module()
    torch.testing.assert_close(exported(tables), resize_cubic(tables, new))
    by = torch.randn_like(got)
    grads = [torch.autograd.grad(x, positions, by, retain_graph=True)[0] for x in (got, want)]
    torch.testing.assert_close(*grads)


@torch.no_grad()
def test_positions_of_another_image_size_are_resized_on_load():
    source = VisionTransformer(SMALL, img_size=64)
    target = VisionTransformer(SMALL, img_size=96)
    report = load_checkpoint(target, source.state_dict())
    assert not report.missing and not report.mismatched
    assert torch.equal(target.stem.pos_embed[:, 0], source.stem.pos_embed[:, 0])
    # The same embeddings, whether resized on load or at each call.
    torch.testing.assert_close(target.eval()(images(96, 96)), source.eval()(images(96, 96)))


@pytest.mark.parametrize('kind', ['EAttention', 'SampledSoftmaxAttention'])
@pytest.mark.parametrize('num_samples', [None, 3, 12])
@torch.no_grad()
def test_a_batch_gives_what_each_image_alone_gives(kind, num_samples):
    model = small(kind, out_indices=range(4), options={'num_samples': num_samples})
    x = images(80, 112, batch=5)
    x[3] *= 4  # another number of tokens is kept
    whole = model(x)
    counts = torch.stack(model.kept_tokens)
    assert (counts[0] < 35).any() and counts.unique().numel() > 1
    for i in range(5):
        single = model(x[i : i + 1])
        assert torch.stack(model.kept_tokens).flatten().tolist() == counts[:, i].tolist()
        for a, b in zip(whole, single, strict=True):
            torch.testing.assert_close(a[i : i + 1], b, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_removed_tokens_never_come_back():
    model = small(out_indices=range(4), sampled_blocks=range(5), options={'num_samples': 10})
    seen = []
    for stage in model.stages:
        for block in stage:
            forward = block.attn.mechanism.forward

            def spy(*args, forward=forward, **kwargs):
                out = forward(*args, **kwargs)
                rows = zip(out.tokens.place, out.tokens.row_valid(), strict=True)
                seen.append([set(row[valid].tolist()) for row, valid in rows])
                return out

            block.attn.mechanism.forward = spy
    model(images(96, 96, batch=3))
    assert len(seen) == 5 and len(seen[0][0]) <= 11
    for earlier, later in pairwise(seen):
        assert all(b <= a for a, b in zip(earlier, later, strict=True))


@torch.no_grad()
def test_without_sampling_the_mechanisms_are_the_plain_ones():
    x = images(64, 64)
    for kind, plain in (
        ('EAttention', 'LinearAttention'),
        ('SampledSoftmaxAttention', 'SoftmaxAttention'),
    ):
        sampled = small(kind, sampled_blocks=())
        other = small(plain, sampled_blocks=None)
        torch.testing.assert_close(sampled(x), other(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pruned_cells_hold_their_last_feature():
    """One block samples: pruned cells of the map are the tokens as they came into it."""
    model = small(sampled_blocks=(1,), out_indices=(0, 1), options={'num_samples': 4})
    before, after = model(images(64, 96))
    kept = int(model.kept_tokens[0][0])
    same = (before == after).all(1).flatten(1)
    assert 0 < kept <= 4 and same[0].sum() == 24 - kept


def test_sampling_saves_computation():
    plain = effvit_mm.count_flops(small(sampled_blocks=()), (3, 160, 160))
    pruned = effvit_mm.count_flops(
        small(sampled_blocks=(0,), options={'num_samples': 5}), (3, 160, 160)
    )
    assert pruned < 0.5 * plain


def test_attention_is_found_whatever_the_default_scope():
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = VisionTransformer(SMALL, attention={'type': 'LinearAngularAttention'})
    assert type(model.stages[0][0].attn.mechanism).__name__ == 'LinearAngularAttention'


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'out_type': 'tokens'}, "out_type='tokens'"),
        ({'sampled_blocks': (1,), 'attention': None}, 'sampled_blocks'),
        ({'sampled_blocks': (1, 5), 'attention': {'type': 'EAttention'}}, 'blocks are 0 to 4'),
        ({'patch_size': 0}, 'patch_size=0'),
        ({'patch_size': 64, 'img_size': 32}, 'patch_size=64'),
        ({'attention': {'type': 'EAttention', 'num_samples': 0}}, 'num_samples=0'),
        ({'attention': {'type': 'EAttention', 'feature_map': 'x'}}, "feature_map='x'"),
    ],
)
def test_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        VisionTransformer(SMALL, **kwargs)


@torch.no_grad()
def test_small_patches_for_small_images():
    model = VisionTransformer(SMALL, patch_size=4, img_size=28).eval()
    assert model.stem.pos_embed.shape == (1, 50, 24)
    assert model.out_strides == (4,)
    assert model(images(28, 28))[0].shape == (2, 24, 7, 7)
    assert model(images(30, 41))[0].shape == (2, 24, *model.map_size((30, 41), -1))
    with pytest.raises(ValueError, match='8 pixels or more'):
        model(images(28, 7))
