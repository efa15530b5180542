"""Weights for the tests of files, names and conversions."""

from pathlib import Path

import golden
import torch

import effvit_mm

DATA = Path(__file__).resolve().parents[1] / 'data'

# A model of each family that timm has, by timm's name.
TIMM = {
    'crossvit_9': 'crossvit_9_240',
    'deit_tiny': 'deit_tiny_patch16_224',
    'deit_tiny_distilled': 'deit_tiny_distilled_patch16_224',
    'levit_128s': 'levit_128s',
    'mvitv2_tiny': 'mvitv2_tiny',
}
# Those whose attention is not the published network's.
OTHER_ATTENTION = [*effvit_mm.list_models('castling_*'), *effvit_mm.list_models('lightweight_*')]

# Arguments that make a model of DeiT's family small.
SMALL = {
    'arch': {'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': 3, 'mlp_ratio': 2},
    'img_size': 64,
}


def published_weights():
    """Those of the published PSLT-tiny's shapes, by its authors' names."""
    spec, _ = golden.load(DATA / 'pslt_tiny_cls224.npz')
    return {k: torch.from_numpy(v) for k, v in golden.golden_state(spec['keys']).items()}


def small_network():
    """A small classifier with weights that hide nothing."""
    return randomise(effvit_mm.create_model('deit_tiny', num_classes=5, **SMALL))


@torch.no_grad()
def randomise(model):
    """Weights that hide nothing: no zeros, no ones, no norm at its start."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith(('running_var', 'norm.weight', 'bn.weight')) or value.ndim == 1:
            one = name.endswith(('running_var', 'weight'))
            value.copy_(0.2 * noise.abs() + 0.7 if one else 0.1 * noise)
        elif value.ndim > 1:
            value.copy_(noise / value[0].numel() ** 0.5)
    return model.eval()


def assert_same(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
