"""Our networks give the outputs of the published implementations."""

import golden
import pytest
import torch
from networks import STAGES, read_fixture

import effvit_mm
from effvit_mm.weights import load_checkpoint

PSLT_FIXTURES = (
    ('pslt_tiny', 'pslt_tiny_cls224'),
    ('pslt_base', 'pslt_base_cls224'),
    ('pslt_base', 'pslt_base_det320x384'),
    ('pslt_base', 'pslt_base_det480x480'),
)


def build(name, state, **kwargs):
    model = effvit_mm.create_model(name, **kwargs).eval()
    ours = effvit_mm.convert_state_dict(state, name)
    prefix = 'backbone.' if kwargs.get('features_only') else ''
    report = load_checkpoint(model, ours, prefix=prefix)
    assert not report.missing and not report.mismatched
    return model


@pytest.mark.parametrize(('name', 'fixture'), PSLT_FIXTURES)
@torch.no_grad()
def test_maps_equal_published(name, fixture):
    reference, x, state = read_fixture(fixture)
    maps = build(name, state, features_only=True)(x)
    for stage, ours in zip(STAGES, maps, strict=True):
        golden.check(reference, stage, ours, atol=0)


@pytest.mark.parametrize(('name', 'fixture'), PSLT_FIXTURES[:2])
@torch.no_grad()
def test_logits_equal_published(name, fixture):
    reference, x, state = read_fixture(fixture)
    golden.check(reference, 'logits', build(name, state)(x), atol=0)


@torch.no_grad()
def test_small_input_leaves_no_trace():
    """The published code turns its shift off for good once it has seen a small map."""
    reference, x, state = read_fixture('pslt_base_det320x384')
    model = build('pslt_base', state, features_only=True)
    model(torch.zeros(1, 3, 224, 224))
    for stage, ours in zip(STAGES, model(x), strict=True):
        golden.check(reference, stage, ours, atol=0)


@torch.no_grad()
def test_check_can_fail():
    """One changed bias is seen: the comparison is no rubber stamp."""
    reference, x, state = read_fixture('pslt_tiny_cls224')
    name = 'layers.0.blocks.0.blocks.1.attn.kv.bias'
    state[name] = state[name] + 0.5
    with pytest.raises(AssertionError):
        golden.check(reference, 'c4', build('pslt_tiny', state, features_only=True)(x)[2], atol=0)
