"""Which network takes which attention mechanism: it builds, trains, deploys; or says why not."""

import copy
from pathlib import Path

import pytest
import torch
from networks import (
    CROSSVIT,
    CROSSVIT_LINEAR,
    LEVIT,
    MVITV2,
    PSLT_NARROW,
    VIT,
    SigmoidAttention,
    as_trained,
    deviation,
    images,
    randomise_norms,
    tensors,
)

import effvit_mm
from effvit_mm.attention import SoftmaxAttention
from effvit_mm.attention.mechanism import MECHANISMS
from effvit_mm.backbones import PSLT, CrossViT, LeViT, MViTv2, VisionTransformer
from effvit_mm.heads import LinearHead, TokenHeads
from effvit_mm.models import Classifier
from effvit_mm.registry import MODELS

HOSTS = {
    'PSLT': (PSLT, PSLT_NARROW, {'shifts': (0, -2, 1), 'window_size': 4}),
    'CrossViT': (CrossViT, CROSSVIT, {}),
    'CrossViT dense': (CrossViT, CROSSVIT_LINEAR, {'mode': 'dense'}),
    'CrossViT windows': (CrossViT, CROSSVIT_LINEAR, {'mode': 'dense', 'window_size': 3}),
    'VisionTransformer': (VisionTransformer, VIT, {}),
    'VisionTransformer windows': (VisionTransformer, VIT, {'window_size': 3}),
    'LeViT': (LeViT, LEVIT, {}),
    'MViTv2': (MViTv2, MVITV2, {}),
}


OURS = dict(MECHANISMS)


class RegisteredAttention(SigmoidAttention):
    """A user's own, by the decorator."""


class AttentionInOpenMMLab(SigmoidAttention):
    """A user's own, in OpenMMLab's registry."""


@pytest.fixture(autouse=True, scope='module')
def _registered():
    effvit_mm.register_mechanism(RegisteredAttention)
    MODELS.register_module(module=AttentionInOpenMMLab)
    yield
    del MECHANISMS['RegisteredAttention'], MODELS.module_dict['AttentionInOpenMMLab']


# A new mechanism of ours is tried in every host by being in the table of mechanisms.
EVERYWHERE = [
    *({'type': name} for name, cls in OURS.items() if not getattr(cls, 'samples_tokens', False)),
    {'type': 'effvit_mm.LinearAttention', 'feature_map': 'relu'},
    {'type': 'RegisteredAttention', 'power': 0.5},
    {'type': 'AttentionInOpenMMLab'},
    {'type': 'effvit_mm.AttentionInOpenMMLab'},
    {'type': SigmoidAttention},
]
SAMPLING = [
    *({'type': name} for name, cls in OURS.items() if getattr(cls, 'samples_tokens', False)),
    {'type': 'EAttention', 'num_samples': 5, 'feature_map': 'elu'},
    {'type': 'SampledSoftmaxAttention', 'num_samples': 8},
]
TAKEN = [
    (host, attention)
    for host in HOSTS
    for attention in EVERYWHERE + SAMPLING * (host in ('CrossViT', 'VisionTransformer'))
]
SIZES = ((64, 96), (97, 75))


def name_of(value):
    if not isinstance(value, dict):
        return value
    kind, *options = value.values()
    return ' '.join(map(str, [getattr(kind, '__name__', kind), *options]))


def build(host, attention, **kwargs):
    cls, arch, options = HOSTS[host]
    torch.manual_seed(0)
    model = cls(arch, attention=attention, drop_path_rate=0.0, **{**options, **kwargs})
    return randomise_norms(model)  # LeViT's residual branches begin at scale 0


def check(model):
    """A step of training reaches every parameter; deployed outputs are those of before."""
    x = images(64, 96, batch=3)
    generator = torch.Generator().manual_seed(2)
    outputs = tensors(model.train()(x))
    sum((y * torch.randn(y.shape, generator=generator)).sum() for y in outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A key's bias shifts all logits of a softmax alike: its gradient is zero but for rounding.
        assert parameter.grad.any() or name.endswith('attn.k.bias'), name
    deployed = copy.deepcopy(as_trained(model)).switch_to_deploy()
    with torch.no_grad():
        for size in SIZES:
            assert deviation(deployed(images(*size)), model(images(*size))) < 1e-4, size


@pytest.mark.parametrize(('host', 'attention'), TAKEN, ids=name_of)
def test_maps(host, attention):
    model = build(host, attention, out_indices=range(HOSTS[host][0].num_maps))
    for size in SIZES:
        maps = model.eval()(images(*size))
        assert [tuple(m.shape[2:]) for m in maps] == [
            model.map_size(size, i) for i in model.out_indices
        ]
    check(model)


@pytest.mark.parametrize(
    ('host', 'attention'), [(h, a) for h, a in TAKEN if h in ('PSLT', 'CrossViT')], ids=name_of
)
def test_classifiers(host, attention):
    if host == 'PSLT':
        backbone = build(host, attention)
        head = LinearHead(backbone.out_channels[-1], 7)
    else:
        backbone = build(host, attention, out_type='cls_token')
        head = TokenHeads(backbone.token_widths, 7)
    check(Classifier(backbone, head))


@pytest.mark.parametrize('host', HOSTS)
def test_no_attention_is_softmax_attention(host):
    plain, named = build(host, None), build(host, {'type': 'SoftmaxAttention'})
    named.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for a, b in zip(plain.eval()(images(64, 96)), named.eval()(images(64, 96)), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize('host', HOSTS)
def test_another_mechanism_stands_in_every_block(host):
    model = build(host, {'type': SigmoidAttention})
    assert not any(isinstance(m, SoftmaxAttention) for m in model.modules())
    assert any(isinstance(m, SigmoidAttention) for m in model.modules())


@pytest.mark.parametrize('attention', SAMPLING[1:], ids=name_of)
@pytest.mark.parametrize(
    'host', ['PSLT', 'CrossViT windows', 'VisionTransformer windows', 'LeViT', 'MViTv2']
)
def test_sampling_is_refused_where_the_map_must_be_whole(host, attention):
    message = f"attention type '{attention['type']}' drops .* needs a class token"
    with pytest.raises(ValueError, match=message):
        build(host, attention)


@pytest.mark.parametrize('host', HOSTS)
def test_what_is_no_mechanism_is_refused(host):
    with pytest.raises(ValueError, match=r"'SoftmaxAtention' is not registered; .*Softmax"):
        build(host, {'type': 'SoftmaxAtention'})
    with pytest.raises(TypeError, match=r"attention='SoftmaxAttention'.*'type'"):
        build(host, 'SoftmaxAttention')


def test_mask_padding_needs_a_mechanism_that_takes_a_mask():
    assert build('PSLT', None, mask_padding=True)
    with pytest.raises(ValueError, match=r"mask_padding=True: .*'LinearAttention' takes no"):
        build('PSLT', {'type': 'LinearAttention'}, mask_padding=True)


# --- the table of docs/add_attention.md ---------------------------------------------------------

PAGE = Path(__file__).parents[1] / 'docs' / 'add_attention.md'
OWN = 'your own'
IN_WORDS = {'VisionTransformer windows': 'its windows'}


def read_table():
    """``{(mechanism, host): cell}`` of the page's first table, under its names."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith('|')]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    header, body = rows[0], rows[2:]
    return {
        (row[0].strip('`'), host): cell
        for row in body
        for host, cell in zip(header[1:], row[1:], strict=True)
    }


TABLE = read_table()
ON_PAGE = {IN_WORDS.get(host, f'`{host}`'): host for host in HOSTS}


def test_table_has_every_mechanism_and_host():
    assert {mechanism for mechanism, _ in TABLE} == {*OURS, OWN}
    assert {ON_PAGE[host].split()[0] for _, host in TABLE} == {host.split()[0] for host in HOSTS}


@pytest.mark.parametrize(('mechanism', 'host'), TABLE)
def test_cell_is_true(mechanism, host):
    attention = {'type': SigmoidAttention if mechanism == OWN else mechanism}
    if TABLE[mechanism, host] == 'yes':
        kinds = [taken['type'] for name, taken in TAKEN if name == ON_PAGE[host]]
        assert attention['type'] in kinds  # tried by the tests above
    else:
        assert TABLE[mechanism, host].startswith('no: ')
        with pytest.raises(ValueError, match=f'{mechanism}.*class token'):
            build(ON_PAGE[host], attention)
