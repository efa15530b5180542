"""Necks: maps of the sizes that their strides declare, and a message where channels do not fit."""

import ast
import re

import pytest
import torch
from networks import randomise_norms
from remedies import tries

from effvit_mm.backbones import PSLT, CrossViT, LeViT, VisionTransformer
from effvit_mm.deploy import switch_modules
from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.checks import check_neck
from effvit_mm.openmm.necks import CSPPAN, CrossViTPyramid, SimpleFeaturePyramid
from effvit_mm.registry import MODELS

VIT = {'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': 3, 'mlp_ratio': 2}
CROSSVIT = {
    'embed_dims': (24, 48),
    'depth': 1,
    'num_heads': 3,
    'mlp_ratio': 2,
    'patch_embed': 'linear',
    'img_size': 240,
}
EATTENTION = {'attention': {'type': 'EAttention', 'num_samples': 6}, 'sampled_blocks': (1, 2)}
WHOLE = ((64, 96), (32, 160), (128, 32))  # padded to multiples of 32, as detectors do
ODD = ((65, 97), (33, 47), (100, 70), (48, 81))


def images(*size):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def ceil(size, stride):
    return tuple(-int(-side // stride) for side in size)


def plain(**kwargs):
    torch.manual_seed(0)
    return VisionTransformer(VIT, **kwargs).eval()


@pytest.mark.parametrize(
    ('patch_size', 'scales', 'strides'),
    [
        (16, (4, 2, 1, 0.5), (4, 8, 16, 32, 64)),
        (8, (2, 1, 0.5, 0.25), (4, 8, 16, 32, 64)),
        (14, (2, 1, 0.5), (7, 14, 28, 56, 112)),
        (14, (4, 1), (3.5, 14, 28, 56, 112)),
    ],
)
@pytest.mark.parametrize('kwargs', [{}, EATTENTION, {'window_size': 2}], ids=str)
@torch.no_grad()
def test_simple_pyramid_has_the_sizes_of_its_strides(patch_size, scales, strides, kwargs):
    backbone = plain(patch_size=patch_size, **kwargs)
    neck = SimpleFeaturePyramid(24, 8, in_stride=patch_size, scales=scales)
    assert neck.out_strides == strides
    for size in (*WHOLE, *ODD):
        maps = neck(backbone(images(*size)), size=size)
        assert [x.shape for x in maps] == [(2, 8, *ceil(size, stride)) for stride in strides]
        filled = [side + -side % patch_size for side in size]
        maps = neck(backbone(images(*size)))
        assert [x.shape[2:] for x in maps] == [ceil(filled, stride) for stride in strides]


@pytest.mark.parametrize('start_level', [0, 1])
@torch.no_grad()
def test_crossvit_pyramid_has_the_sizes_of_its_strides(start_level):
    backbone = CrossViT(CROSSVIT, mode='dense').eval()
    neck = CrossViTPyramid(backbone.out_channels, 8, start_level=start_level, num_outs=6)
    strides = (4, 8, 16, 32, 64, 128, 256)[start_level:][:6]
    assert neck.out_strides == strides
    for size in WHOLE:  # the large branch's map tells the size
        maps = neck(backbone(images(*size)))
        assert [x.shape for x in maps] == [(2, 8, *ceil(size, stride)) for stride in strides]
    for size in (*WHOLE, *ODD):
        maps = neck(backbone(images(*size)), size=size)
        assert [x.shape[2:] for x in maps] == [ceil(size, stride) for stride in strides]
        neck(backbone(images(*size)))


LEVIT = {'embed_dims': (16, 24, 32), 'num_heads': (2, 3, 2), 'depths': (1, 1, 1), 'key_dim': 8}
TINY_PSLT = {'embed_dims': 12, 'depths': (1, 1, 1, 1), 'num_heads': (4, 8)}


@pytest.mark.parametrize('num_outs', [4, 5])
@pytest.mark.parametrize(
    'backbone',
    [lambda: LeViT(LEVIT, range(4)), lambda: PSLT(TINY_PSLT, out_indices=(1, 2, 3))],
    ids=['LeViT', 'PSLT'],
)
@torch.no_grad()
def test_csp_pan_has_the_sizes_of_its_strides(backbone, num_outs):
    backbone = backbone().eval()
    neck = CSPPAN(backbone.out_channels, 8, num_outs=num_outs).eval()
    assert neck.out_strides == (8, 16, 32, 64, 128)[:num_outs]
    assert neck.out_strides[: len(backbone.out_strides)] == backbone.out_strides
    for size in (*WHOLE, *ODD):
        maps = neck(backbone(images(*size)))
        assert [x.shape for x in maps] == [(2, 8, *ceil(size, s)) for s in neck.out_strides]


NECKS = {
    'simple': lambda **kwargs: (SimpleFeaturePyramid(24, 8, **kwargs), [noise(24, 5, 7)]),
    'crossvit': lambda **kwargs: (
        CrossViTPyramid([24, 48], 8, **kwargs),
        [noise(24, 7, 9), noise(48, 5, 7)],
    ),
    'csp-pan': lambda num_outs=4, **_: (
        CSPPAN([12, 24, 48], 8, num_outs=num_outs),
        [noise(12, 19, 27), noise(24, 10, 14), noise(48, 5, 7)],
    ),
}


def noise(*size):
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize('name', NECKS)
@pytest.mark.parametrize('convs', [False, True])
def test_every_parameter_has_a_gradient(name, convs):
    neck, inputs = NECKS[name](num_outs=6, add_extra_convs=convs)
    maps = neck(inputs)
    assert len(maps) == len(neck.out_strides) == 6
    if name != 'csp-pan':  # it has no other way than convolutions
        assert len(list(neck.extra.parameters())) == 4 * convs
    sum((x * noise(*x.shape[1:])).sum() for x in maps).backward()
    for key, parameter in neck.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@torch.no_grad()
def test_simple_pyramid_keeps_places():
    """A cell of the map goes to the cells of every level that cover the same pixels."""
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(24, 8, num_outs=4).eval()
    base = torch.zeros(1, 24, 8, 8)
    spot = base.clone()
    spot[..., 4, 4] = 1
    for level, a, b in zip((4, 2, 1, 0.5), neck([base]), neck([spot]), strict=True):
        rows = (a - b).abs().sum(1)[0].gt(1e-6).nonzero()
        first, last = int(4 * level), int(5 * level) if level >= 1 else 3
        # and their neighbours, by the 3 x 3 convolution
        assert rows.min() == first - 1 and rows.max() == min(last, 8 * level - 1)


@torch.no_grad()
def test_coarse_knowledge_reaches_the_fine_levels_of_crossvit():
    neck, (small, large) = NECKS['crossvit']()
    before = neck.eval()((small, large))
    after = neck((small, large + 1 + noise(48, 5, 7)))
    assert all(not torch.allclose(a, b) for a, b in zip(before, after, strict=True))


@torch.no_grad()
def test_csp_pan_carries_knowledge_both_ways():
    neck, maps = NECKS['csp-pan']()
    before = neck.eval()(maps)
    for i in range(3):
        changed = list(maps)
        changed[i] = changed[i] + 1 + noise(*changed[i].shape[1:])
        assert all(not torch.allclose(a, b) for a, b in zip(before, neck(changed), strict=True))


@torch.no_grad()
def test_csp_pan_folds_its_norms():
    neck, maps = NECKS['csp-pan']()
    want = randomise_norms(neck).eval()(maps)
    switch_modules(neck)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in neck.modules())
    for a, b in zip(neck(maps), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_layer_norm_is_over_channels():
    from effvit_mm.openmm.necks.levels import LayerNorm2d

    y = LayerNorm2d(24)(5 * noise(24, 3, 4) + 2)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(1, unbiased=False), torch.ones(2, 3, 4), atol=1e-4, rtol=0)


def test_types_build_from_the_registry():
    neck = MODELS.build({'type': 'effvit_mm.SimpleFeaturePyramid', 'in_channels': 24})
    assert isinstance(neck, SimpleFeaturePyramid)
    neck = MODELS.build({'type': 'effvit_mm.CrossViTPyramid', 'in_channels': [24, 48]})
    assert isinstance(neck, CrossViTPyramid)
    neck = MODELS.build({'type': 'effvit_mm.CSPPAN', 'in_channels': [12, 24, 48]})
    assert isinstance(neck, CSPPAN)


@pytest.mark.parametrize(
    ('cls', 'kwargs', 'message'),
    [
        (SimpleFeaturePyramid, {'in_channels': [24]}, r'in_channels=\[24\]: an int'),
        (SimpleFeaturePyramid, {'in_channels': 24, 'scales': (1, 2)}, r'scales=\(1, 2\)'),
        (SimpleFeaturePyramid, {'in_channels': 24, 'scales': (3, 1)}, r'scales=\(3, 1\)'),
        (SimpleFeaturePyramid, {'in_channels': 24, 'num_outs': 3}, 'num_outs=3: .* 4 or more'),
        (CrossViTPyramid, {'in_channels': 24}, 'in_channels=24: two ints'),
        (CrossViTPyramid, {'in_channels': [24, 48], 'start_level': 2}, 'start_level=2'),
        (CrossViTPyramid, {'in_channels': [24, 48], 'num_outs': 2}, 'num_outs=2: .* 4 or more'),
        (CSPPAN, {'in_channels': 24}, 'in_channels=24: two ints or more'),
        (CSPPAN, {'in_channels': [24]}, r'in_channels=\[24\]: two ints or more'),
        (CSPPAN, {'in_channels': [24, 48], 'out_channels': 7}, 'out_channels=7: an even'),
        (CSPPAN, {'in_channels': [24, 48], 'kernel': 4}, 'kernel=4: an odd'),
        (CSPPAN, {'in_channels': [24, 48], 'num_outs': 1}, 'num_outs=1: .* 2 or more'),
    ],
)
def test_refuses(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls(**kwargs)


@tries(": set its in_channels to the backbone's out_channels")
def test_maps_of_another_backbone_are_refused():
    with pytest.raises(ValueError, match=r'for maps of \[24\] channels and got \[32\]'):
        SimpleFeaturePyramid(24)([noise(32, 4, 4)])
    with pytest.raises(ValueError, match=r'\[24, 48\] channels and got \[24\]'):
        CrossViTPyramid([24, 48])([noise(24, 4, 4)])
    with pytest.raises(ValueError, match=r'\[24, 48\] channels and got \[24\]'):
        CSPPAN([24, 48], num_outs=2)([noise(24, 4, 4)])
    backbone = PSLT('tiny', out_indices=(2, 3), final_norm=False)
    with pytest.raises(ValueError, match="set its in_channels to the backbone's out_channels"):
        CSPPAN([24, 48])(backbone(noise(3, 64, 64)))
    assert CSPPAN(backbone.out_channels)(backbone(noise(3, 64, 64)))


# --- in_channels in a config, before anything is built ----------------------------------------

PSLT_CONFIG = {'type': 'effvit_mm.PSLT', 'arch': 'tiny', 'out_indices': (0, 1, 2, 3)}
TINY = {'type': 'effvit_mm.VisionTransformer', 'arch': 'tiny'}
FPN = {'type': 'FPN', 'out_channels': 256, 'num_outs': 5}
SIMPLE = {'type': 'effvit_mm.SimpleFeaturePyramid'}
DENSE = {'type': 'effvit_mm.CrossViT', 'arch': '9', 'mode': 'dense'}


@tries('write in_channels={}')
@pytest.mark.parametrize(
    ('backbone', 'neck', 'message'),
    [
        (
            PSLT_CONFIG,
            {**FPN, 'in_channels': [256, 512, 1024, 2048]},
            r'model\.neck\.in_channels=\[256, 512, 1024, 2048\]: '
            r'model\.backbone \(effvit_mm\.PSLT\) returns maps of '
            r'\[48, 96, 192, 384\] channels at strides \[4, 8, 16, 32\]; '
            r'write in_channels=\[48, 96, 192, 384\]',
        ),
        (
            {**PSLT_CONFIG, 'out_indices': (1, 2, 3)},
            {**FPN, 'in_channels': [48, 96, 192, 384]},
            r'write in_channels=\[96, 192, 384\]',
        ),
        (PSLT_CONFIG, [{**FPN, 'in_channels': [48]}, {}], r'model\.neck\[0\]\.in_channels=\[48\]'),
        (TINY, {**SIMPLE, 'in_channels': 384}, 'in_channels=384: .* write in_channels=192'),
        (
            {**TINY, 'out_indices': (1, 3)},
            {**SIMPLE, 'in_channels': 192},
            'out_indices=-1 in the backbone: this neck takes one map',
        ),
        (
            {**PSLT_CONFIG, 'out_indices': (1, 2, 3)},
            {'type': 'effvit_mm.CSPPAN', 'in_channels': [48, 96, 192]},
            r'in_channels=\[48, 96, 192\]: .* write in_channels=\[96, 192, 384\]',
        ),
        (
            DENSE,
            {'type': 'effvit_mm.CrossViTPyramid', 'in_channels': [96, 192]},
            r'strides \[11\.2, 16\]; write in_channels=\[128, 256\]',
        ),
    ],
)
def test_channels_that_do_not_fit(backbone, neck, message):
    with pytest.raises(ConfigError, match=message) as error:
        check_neck({'backbone': backbone, 'neck': neck})
    told = str(error.value)
    given = ast.literal_eval(re.search(r'write in_channels=(\d+|\[[^]]*\])', told)[1])
    first = neck[0] if isinstance(neck, list) else neck
    last = {'out_indices': -1} if 'out_indices=-1 in the backbone' in told else {}
    check_neck({'backbone': {**backbone, **last}, 'neck': {**first, 'in_channels': given}})


@pytest.mark.parametrize(
    ('backbone', 'neck'),
    [
        (PSLT_CONFIG, {**FPN, 'in_channels': [48, 96, 192, 384]}),
        (PSLT_CONFIG, {**FPN, 'in_channels': (48, 96, 192, 384)}),
        (PSLT_CONFIG, {'type': 'GlobalAveragePooling'}),
        (PSLT_CONFIG, None),
        (TINY, {**SIMPLE, 'in_channels': 192}),
        ({'type': 'ResNet', 'depth': 50}, {**FPN, 'in_channels': [1]}),  # not ours to judge
        (
            {**PSLT_CONFIG, 'arch': 'tinny'},
            {**FPN, 'in_channels': [1]},
        ),  # has its own message later
    ],
)
def test_what_fits_passes(backbone, neck):
    check_neck({'backbone': backbone, 'neck': neck})
